"""``verify --sample``: costly attacks on some channels, and each that was left out is named."""

from collections.abc import Collection, Sequence
from dataclasses import replace

import pytest

from watertight.attack.arena import Arena
from watertight.attack.probe import Gap, Observation, Outcome, Probe
from watertight.verify.sampling import Sample, sampled

CHANNELS = [f"a{number} -> b" for number in range(9)]


async def never_run(_: Arena) -> Observation:
    raise AssertionError


def probe(identifier: str, channel: str, *, costly: bool) -> Probe:
    return Probe(
        identifier, "envoy", channel, "attack", "", Outcome.REFUSED, never_run, costly=costly
    )


PROBES = [
    probe(identifier, channel, costly=identifier.startswith("desync"))
    for channel in CHANNELS
    for identifier in ("desync.cl-0", "desync.te-0", "tls.plaintext")
]


def channels(probes: Sequence[Probe]) -> set[str]:
    return {p.channel for p in probes if p.costly}


@pytest.mark.parametrize("most", [1, 4, 9, 100])
def test_what_costs_little_is_all_run_and_the_rest_is_run_or_named(most: int) -> None:
    kept, left = sampled(PROBES, Sample(most, 7))
    assert sum(not p.costly for p in kept) == len(CHANNELS)
    assert len(channels(kept)) == min(most, len(CHANNELS))
    assert channels(kept) | {gap.channel for gap in left} == set(CHANNELS)
    assert channels(kept) & {gap.channel for gap in left} == set()


def test_a_gap_says_what_was_left_out_and_how_to_leave_out_the_same() -> None:
    _, left = sampled(PROBES, Sample(8, 7))
    (gap,) = left
    said = "desync.cl-0, desync.te-0: left out by --sample 8 --seed 7"
    assert gap == Gap("envoy", gap.channel, said)


def test_a_seed_draws_the_same_and_another_draws_others() -> None:
    drawn = {str(seed): channels(sampled(PROBES, Sample(3, seed))[0]) for seed in range(20)}
    assert drawn["4"] == channels(sampled(PROBES[::-1], Sample(3, 4))[0])
    assert set().union(*drawn.values()) == set(CHANNELS)


def of_many(pairs: Collection[str]) -> Probe:
    made = probe("exhaust.host", "* -> host", costly=True).standing_for(pairs)
    return replace(made, narrowed=of_many)


def test_one_look_at_many_is_narrowed_to_some_of_them() -> None:
    every = of_many(CHANNELS)
    (kept,), left = sampled([every], Sample(4, 7))
    assert (kept.id, len(kept.pairs), kept.costly) == (every.id, 4, True)
    assert {*kept.pairs, *(gap.channel for gap in left)} == set(CHANNELS)
    assert len(left) == len(CHANNELS) - 4


def test_each_attack_is_tried_on_so_many_and_those_of_a_family_on_the_same() -> None:
    few = probe("desync.rare", CHANNELS[0], costly=True)
    kept, _ = sampled([*PROBES, few], Sample(4, 7))
    tried = {
        name: {p.channel for p in kept if p.id == name} for name in ("desync.cl-0", "desync.te-0")
    }
    assert tried["desync.cl-0"] == tried["desync.te-0"]
    assert few in kept


def test_nothing_is_left_out_where_there_are_few() -> None:
    assert sampled(PROBES, Sample(9, 1)) == (PROBES, [])
