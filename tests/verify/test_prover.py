"""The prover judges facts: only what was seen, and as declared, has held."""

import asyncio
from typing import cast

import pytest

from watertight.attack.arena import Arena
from watertight.attack.probe import (
    Observation,
    Outcome,
    Probe,
    Verdict,
    no_key,
    not_run,
    refused,
    served,
)
from watertight.model.system import Channel, Position, System
from watertight.verify.prover import DuplicateProbe, prove
from watertight.verify.results import Result


class NoArena:
    """The probes here touch nothing of it but its system."""

    system = System(
        "shop.internal", channels=(Channel("a", "b", at=Position("watertight.yaml", 7, 3)),)
    )


ARENA = cast("Arena", NoArena())


def probe(
    identifier: str,
    seen: Observation | Exception,
    expected: Outcome = Outcome.REFUSED,
    pause: asyncio.Event | None = None,
) -> Probe:
    async def run(_arena: Arena) -> Observation:
        if pause is not None:
            await pause.wait()
        if isinstance(seen, Exception):
            raise seen
        return seen

    return Probe(identifier, "envoy", "a -> b", "attack", "tried", expected, run)


@pytest.mark.parametrize(
    ("seen", "expected", "verdict"),
    [
        (refused("no"), Outcome.REFUSED, Verdict.HELD),
        (served("yes"), Outcome.REFUSED, Verdict.BROKEN),
        (served("yes"), Outcome.SERVED, Verdict.HELD),
        (refused("no"), Outcome.SERVED, Verdict.BROKEN),
        (not_run("away"), Outcome.REFUSED, Verdict.NOT_RUN),
        (not_run("away"), Outcome.SERVED, Verdict.NOT_RUN),
        (RuntimeError("a bug"), Outcome.REFUSED, Verdict.NOT_RUN),
    ],
)
async def test_the_verdict_is_made_of_what_was_seen(
    seen: Observation | Exception, expected: Outcome, verdict: Verdict
) -> None:
    evidence = await prove(ARENA, [probe("x", seen, expected)])
    assert [r.verdict for r in evidence.results] == [verdict]
    assert (evidence.exit_code == 0) is (verdict is Verdict.HELD)


async def test_a_probe_that_never_ends_is_not_run() -> None:
    never = probe("x", refused("no"), pause=asyncio.Event())
    evidence = await prove(ARENA, [never], deadline_seconds_per_probe=0.05)
    assert evidence.results[0].verdict is Verdict.NOT_RUN
    assert evidence.results[0].observed.startswith("no answer within ")


async def test_results_keep_the_order_of_the_probes_and_name_the_line() -> None:
    gate = asyncio.Event()
    seen: list[Result] = []

    def note(found: Result) -> None:
        seen.append(found)
        gate.set()

    probes = [probe("slow", refused("no"), pause=gate), probe("quick", refused("no"))]
    evidence = await prove(ARENA, probes, on_result=note)
    assert [r.id for r in seen] == ["quick", "slow"]
    assert [r.id for r in evidence.results] == ["slow", "quick"]
    assert evidence.results[0].at.line == 7


async def test_no_more_run_at_once_than_allowed() -> None:
    running = most = 0

    async def run(_arena: Arena) -> Observation:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        return refused("no")

    probes = [
        Probe(f"p{i}", "envoy", "a -> b", "attack", "tried", Outcome.REFUSED, run)
        for i in range(20)
    ]
    await prove(ARENA, probes, concurrency=3)
    assert most == 3


async def test_two_probes_of_one_name_are_refused() -> None:
    with pytest.raises(DuplicateProbe):
        await prove(ARENA, [probe("x", refused("no")), probe("x", served("yes"))])


async def test_who_waits_begins_first_then_who_takes_longest() -> None:
    begun: list[str] = []

    def named(name: str) -> Probe:
        async def run(_arena: Arena) -> Observation:
            begun.append(name)
            return refused("no")

        return Probe(name, "envoy", "a -> b", "attack", "tried", Outcome.REFUSED, run)

    probes = [named("short"), named("long").attempting(100), named("waits").waiting()]
    evidence = await prove(ARENA, probes, concurrency=1)
    assert begun == ["waits", "long", "short"]
    assert [r.id for r in evidence.results] == ["short", "long", "waits"]


async def test_what_takes_a_token_nobody_can_sign_says_how_to_lend_the_key() -> None:
    evidence = await prove(ARENA, [probe("token.expired", no_key("main")), HELD])
    [missing, _] = evidence.results
    assert missing.verdict is Verdict.NOT_RUN
    assert "--token-key main=FILE" in missing.observed
    assert evidence.exit_code == 1


async def test_what_is_left_out_for_want_of_a_key_is_listed_and_makes_a_part() -> None:
    told: list[Result] = []
    keyless = [probe("token.expired", no_key("main")), probe("use.route", no_key("main"))]
    evidence = await prove(ARENA, [*keyless, HELD], on_result=told.append, without_tokens=True)
    assert [r.id for r in evidence.results] == [r.id for r in told] == ["tls.x"]
    assert (evidence.exit_code, evidence.is_whole) == (0, False)
    assert evidence.part == "--without-tokens"
    [gap] = evidence.gaps
    assert gap.channel == "a -> b"
    assert gap.what.startswith("token.expired, use.route: what takes a token of issuer main")


async def test_nothing_else_that_is_not_run_or_broken_is_left_out_with_it() -> None:
    other = [probe("tls.y", not_run("away")), probe("tls.z", served("yes"))]
    evidence = await prove(ARENA, [*other, HELD], without_tokens=True)
    assert [r.verdict for r in evidence.results][:2] == [Verdict.NOT_RUN, Verdict.BROKEN]
    assert evidence.is_whole
    nothing = await prove(ARENA, [probe("token.x", no_key("main"))], without_tokens=True)
    assert nothing.exit_code != 0


HELD = probe("tls.x", refused("no"))
