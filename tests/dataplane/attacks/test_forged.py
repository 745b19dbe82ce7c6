"""Forged headers prove nothing where no app was there to read them."""

import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import pytest

from tests.dataplane.attacks.range import KEY, KEYS, not_held
from tests.dataplane.attacks.scene import scene, system
from tests.mesh import Mesh, running_mesh
from tests.ports import free_port
from tests.verify import live
from watertight.attack.probe import Verdict
from watertight.dataplane.attacks import forged
from watertight.verify.arena import LiveArena
from watertight.verify.prover import prove

IDS = {"grants.forged-headers", "gateway.forged-headers"}


@asynccontextmanager
async def nobody_there() -> AsyncIterator[tuple[Mesh, LiveArena]]:
    """The mesh of the careless app, without the app."""
    async with (
        running_mesh(system(free_port("127.0.0.1")), keys=KEYS, apps=False) as mesh,
        live.arena_over(mesh, token_keys={"main": KEY.as_dict(private=True)}) as arena,
    ):
        yield mesh, arena


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """A process that answers nobody for the length of a block."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


async def no_packet_socket(_service: str) -> None:
    return None


async def verdicts(mesh: Mesh, arena: LiveArena) -> dict[str, set[Verdict]]:
    found: dict[str, set[Verdict]] = {}
    for result in (await prove(arena, forged.probes(mesh.system))).results:
        found.setdefault(result.id, set()).add(result.verdict)
    return found


async def test_an_app_that_is_there_is_told_nothing() -> None:
    async with scene("http.server") as there:
        results = await there.run(list(forged.probes(there.mesh.system)))
    assert {r.id for r in results} == IDS
    assert not_held(results) == {}


async def test_what_nobody_saw_is_not_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """The app answers, and says nothing of its headers."""
    monkeypatch.setattr(live, "packet_socket", no_packet_socket)
    async with scene("http.server") as there:
        results = await there.run(list(forged.probes(there.mesh.system)))
    assert {(r.id, r.verdict) for r in results} == {(probe, Verdict.NOT_RUN) for probe in IDS}
    assert all("nobody may look" in result.observed for result in results)


async def test_an_app_that_repeats_it_needs_no_witness(monkeypatch: pytest.MonkeyPatch) -> None:
    """The app answers with all of its headers, and its proxy lets one pass."""
    monkeypatch.setattr(live, "packet_socket", no_packet_socket)
    monkeypatch.setattr(forged, "OURS", (*forged.OURS, "x-colour"))
    async with (
        running_mesh(system(free_port("127.0.0.1")), keys=KEYS) as mesh,
        live.arena_over(mesh, token_keys={"main": KEY.as_dict(private=True)}) as arena,
    ):
        assert await verdicts(mesh, arena) == {probe: {Verdict.BROKEN} for probe in IDS}


@pytest.mark.parametrize("seen", [True, False], ids=["with a witness", "without one"])
async def test_an_absent_app_proves_nothing(monkeypatch: pytest.MonkeyPatch, seen: bool) -> None:
    if not seen:
        monkeypatch.setattr(live, "packet_socket", no_packet_socket)
    async with nobody_there() as (mesh, arena):
        assert await verdicts(mesh, arena) == {probe: {Verdict.NOT_RUN} for probe in IDS}


@pytest.mark.parametrize("seen", [True, False], ids=["with a witness", "without one"])
async def test_nor_does_a_silence(monkeypatch: pytest.MonkeyPatch, seen: bool) -> None:
    """The app's proxy hangs: nobody is answered, and the app hears nothing."""
    monkeypatch.setattr(forged, "TIMEOUT_SECONDS", 1.0)
    if not seen:
        monkeypatch.setattr(live, "packet_socket", no_packet_socket)
    async with nobody_there() as (mesh, arena):
        with stopped(mesh.envoys["app"].pid):
            assert await verdicts(mesh, arena) == {probe: {Verdict.NOT_RUN} for probe in IDS}
