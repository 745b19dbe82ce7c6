"""Two identities at one careless app: nothing passes between them, and the probes see it."""

import pytest

from tests.careless import COMPILED, SERVERS
from tests.dataplane.attacks.range import not_held
from tests.dataplane.attacks.raw import DESYNC_SABOTAGES, downgraded, naive, straight_through
from tests.dataplane.attacks.scene import scene, system
from tests.dataplane.attacks.weaken import manager, routes
from tests.dataplane.attacks.weakenings import connections_named_on, without_hidden_body
from watertight.attack.probe import Verdict
from watertight.dataplane.attacks import desync
from watertight.dataplane.attacks.ways import FORBIDDEN


def slow(server: str) -> object:
    marks = (pytest.mark.slow, pytest.mark.timeout(900))
    return pytest.param(server, marks=marks) if server != "http.server" else server


@pytest.mark.parametrize("server", [slow(server) for server in SERVERS])
async def test_a_careless_app_gets_only_what_was_judged(server: str) -> None:
    some = ("desync.cl-0", "desync.te-0", "desync.pause", "desync.chunks", "desync.client-side")
    async with scene(server) as careful:
        results = await careful.run(careful.probes(*(some if server in COMPILED else ())))
        assert not_held(results) == {}
        assert [line for line in careful.app.executed() if FORBIDDEN in line] == []
        assert any("/public/" in line for line in careful.app.executed())


async def test_what_an_app_was_told_and_passes_on_is_no_attack_but_what_it_executes_is() -> None:
    """A list of notes gives the victim what the attacker may send."""
    some = ("desync.cl-0", "desync.te-0", "desync.pause", "desync.client-side")
    async with scene("notes") as kept:
        probes = kept.probes(*some)
        assert not_held(await kept.run(probes)) == {}
        assert [line for line in kept.app.executed() if FORBIDDEN in line] == []
        probes = [p for p in probes if p.channel == "mallory -> app" and "by mallory" in p.attempt]
        probes = [p for p in probes if p.attempt.startswith("GET")]
        async with kept.mesh.sabotage(straight_through("mallory", "app", kept.app)):
            results = await kept.run(probes)
            assert {r.id: r.observed for r in results if r.verdict is not Verdict.BROKEN} == {}
            assert {r.id for r in results} == set(some)


async def test_an_answer_that_goes_on_and_on_is_not_waited_for() -> None:
    async with scene("events") as endless:
        probe = next(p for p in endless.probes("desync.te-0") if "mallory" in p.channel)
        assert not_held(await endless.run([probe])) == {}


async def test_bytes_that_nobody_reads_on_the_way_turn_every_probe_red() -> None:
    async with scene("http.server") as open_to_all:
        every = [*open_to_all.probes(), *desync.lasting(open_to_all.mesh.system)]
        probes = [p for p in every if p.channel == "mallory -> app"]
        probes = [p for p in probes if ".h2-" not in p.id]
        async with open_to_all.mesh.sabotage(straight_through("mallory", "app", open_to_all.app)):
            results = await open_to_all.run(probes)
            assert {r.id: r.observed for r in results if r.verdict is not Verdict.BROKEN} == {}
            assert "deep.pause" in {r.id for r in results}
            assert any(FORBIDDEN in line for line in open_to_all.app.executed())


async def test_frames_written_down_as_they_are_turn_every_probe_red() -> None:
    async with scene("http.server") as open_to_all, naive(open_to_all.app.port) as port:
        probes = [p for p in open_to_all.probes() if ".h2-" in p.id]
        probes = [p for p in probes if p.channel == "outside -> gateway"]
        async with open_to_all.mesh.sabotage(downgraded(port)):
            results = await open_to_all.run(probes)
            assert {r.id: r.observed for r in results if r.verdict is not Verdict.BROKEN} == {}


async def test_every_probe_bites() -> None:
    assert {p.id for p in desync.probes(system(1))} == DESYNC_SABOTAGES


async def test_a_body_whose_length_is_hidden_is_refused_and_one_weakening_brings_it_back() -> None:
    """``Connection: content-length`` at the door, which Envoy's codec obeys."""
    async with scene("http.server") as guarded:
        (probe,) = (
            p
            for p in guarded.probes("desync.hop-by-hop")
            if p.channel == "mallory -> app" and "thief" in p.attempt
        )
        async with guarded.mesh.sabotage(manager("app", "in|mallory", without_hidden_body)):
            (found,) = await guarded.run([probe])
        assert found.verdict is Verdict.BROKEN
        assert not_held(await guarded.run([probe])) == {}
        # What an upgrade's `Connection` names, whoever stands behind the proxy would take away.
        async with guarded.mesh.sabotage(routes("app", "in|mallory", connections_named_on)):
            (found,) = await guarded.run([probe])
        assert found.verdict is Verdict.BROKEN
        assert "Connection named to the app" in found.observed
