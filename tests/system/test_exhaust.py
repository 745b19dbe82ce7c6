"""The probes that use things up, on a whole system: held, and each shown to bite."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import structlog

from tests.folders import public_folder
from tests.planes import arena_of, sealed
from tests.ports import free_port
from watertight.attack.probe import Verdict
from watertight.control import eventlog
from watertight.control.eventlog import EventLog
from watertight.control.plane import ControlPlane
from watertight.control.revocation import restore, revoke
from watertight.dataplane.attacks import envoy_probes
from watertight.identity import jwt_svid
from watertight.identity.workload_api import listener, service
from watertight.identity.workload_api.shares import Share
from watertight.model.system import Limits
from watertight.runtime import launch, supervisor
from watertight.runtime.pod_wire import ProcessWire
from watertight.runtime.pods import pod_specs
from watertight.verify.prover import prove
from watertight.verify.results import Result

pytestmark = pytest.mark.asyncio(loop_scope="module")

MEBIBYTE = 1 << 20
DECLARED = Limits(192 * MEBIBYTE, 120, 8 * MEBIBYTE, 512)
USUAL = eventlog.BURST_OF_A_KIND
LIMITS = "{memory: 192MiB, processes: 120, temp: 8MiB, files: 512}"
INSIDE = {
    "exhaust.audience",
    "exhaust.control-log",
    "exhaust.host",
    "exhaust.netlink",
    "exhaust.tokens",
    "isolation.kernel",
    "isolation.left-behind",
    "isolation.user-namespace",
}


@pytest.fixture(scope="module")
def project() -> Iterator[Path]:
    with public_folder() as directory:
        declaration = directory / "watertight.yaml"
        declaration.write_text(
            "trust_domain: shop.internal\n"
            "services:\n"
            "  web: {run: [python, -m, http.server, '8000', --bind, 127.0.0.1],"
            f" listens: {{http: 8000}}, limits: {LIMITS}}}\n"
            "gateway:\n"
            "  hostname: shop.example\n"
            f"  listen: 127.0.0.1:{free_port()}\n"
            "  routes: [{path: /, to: web, require: anyone}]\n"
        )
        yield declaration


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def plane(project: Path) -> AsyncIterator[ControlPlane]:
    async with sealed(project) as running:
        yield running


async def verdicts(plane: ControlPlane, *ids: str) -> dict[str, Result]:
    """What came of these probes, with agents that start in what is in force now."""
    probes = [p for p in envoy_probes(plane.effective) if p.id in ids]
    assert {p.id for p in probes} == set(ids)
    async with arena_of(plane) as arena:
        return {r.id: r for r in (await prove(arena, probes)).results}


async def broken(plane: ControlPlane, identifier: str) -> str:
    """What a probe saw that broke."""
    result = (await verdicts(plane, identifier))[identifier]
    assert result.verdict is Verdict.BROKEN, result.observed
    return result.observed


async def test_all_hold(plane: ControlPlane) -> None:
    results = await verdicts(plane, *INSIDE, "exhaust.access-log")
    assert {i: r.observed for i, r in results.items() if r.verdict is not Verdict.HELD} == {}


async def test_all_hold_of_a_revoked_service(plane: ControlPlane) -> None:
    await revoke(plane, "web")
    try:
        results = await verdicts(plane, *INSIDE)
    finally:
        await restore(plane, "web")
    assert {i: r.observed for i, r in results.items() if r.verdict is not Verdict.HELD} == {}
    assert "none of 100" in results["exhaust.tokens"].observed


@asynccontextmanager
async def allowed(plane: ControlPlane, **more: int) -> AsyncIterator[None]:
    """The sandbox of ``web`` with other limits than the declared ones."""
    web = plane.declared.services["web"]
    weak = replace(plane.declared, services={"web": replace(web, limits=replace(DECLARED, **more))})
    for system in (weak, plane.declared):
        specs = pod_specs(system, plane.layout, plane._machine)
        await plane.supervisor.configure(specs["web"])
        if system is weak:
            yield


@pytest.mark.parametrize(
    ("more", "what"),
    [
        ({"memory_bytes": 1024 * MEBIBYTE}, "of memory"),
        ({"processes": 1_000}, "of processes"),
        ({"temp_bytes": 64 * MEBIBYTE}, "of temporary files"),
        ({"files": 4_096}, "of open files"),
    ],
)
async def test_more_than_declared_is_noticed(
    plane: ControlPlane, more: dict[str, int], what: str
) -> None:
    async with allowed(plane, **more):
        seen = await broken(plane, "exhaust.host")
    assert what in seen
    assert seen.count("may have") == 1


async def test_no_budget_at_all_is_noticed(
    plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not plane.layout.cgroups:
        pytest.skip("there is no control group that we may divide")
    monkeypatch.setattr(supervisor, "make_guest_budget", lambda *_: [])
    seen = await broken(plane, "exhaust.host")
    assert "of memory" in seen
    assert "of processes" in seen


async def test_memory_that_nobody_counts_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "MOST_UNREAD_BYTES", 1 << 40)
    with public_folder() as directory:
        declaration = directory / "watertight.yaml"
        declaration.write_text(
            "trust_domain: idle.internal\nservices: {idle: {run: [sleep, '3600']}}\n"
        )
        async with sealed(declaration) as plane:
            assert "idle got 6" in await broken(plane, "exhaust.netlink")


@pytest.mark.parametrize("identifier", ["isolation.user-namespace", "isolation.kernel"])
async def test_no_filter_is_noticed(
    plane: ControlPlane, monkeypatch: pytest.MonkeyPatch, identifier: str
) -> None:
    process_wire = launch.process_wire

    def unconfined(*arguments: Any) -> ProcessWire:
        return {**process_wire(*arguments), "confined": False}

    spec = pod_specs(plane.declared, plane.layout, plane._machine)["web"]
    monkeypatch.setattr(supervisor, "process_wire", unconfined)
    await plane.supervisor.configure(spec)
    try:
        seen = await broken(plane, identifier)
    finally:
        monkeypatch.undo()
        await plane.supervisor.configure(spec)
    taken = {"isolation.user-namespace": ["unshare"], "isolation.kernel": ["ptrace", "io_setup"]}
    assert all(name in seen for name in taken[identifier])


async def test_issuing_without_end_is_noticed(
    plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def always(_share: Share) -> bool:
        return True

    monkeypatch.setattr(Share, "issue", always)
    assert "all 100 were issued" in await broken(plane, "exhaust.tokens")


async def test_long_audiences_are_noticed(
    plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    anything: Callable[[object], None] = lambda _audiences: None  # noqa: E731
    monkeypatch.setattr(service, "check_audiences", anything)
    monkeypatch.setattr(jwt_svid, "check_audiences", anything)
    assert await broken(plane, "exhaust.audience") == "it was issued"


@pytest.mark.parametrize("share", [USUAL, 1_000_000])
async def test_a_log_without_shares_is_noticed(
    plane: ControlPlane, monkeypatch: pytest.MonkeyPatch, share: int
) -> None:
    """Where each connection is worth a line, as to a socket that is full."""
    monkeypatch.setattr(eventlog, "BURST_OF_A_KIND", share)
    monkeypatch.setattr(listener, "CONNECTS_AT_ONCE", 1_000)
    monkeypatch.setattr(listener, "gone", lambda _connection: False)
    path = plane.placement.workload_api_socket("web")
    await plane.endpoint.open(path, mode=0o666, capacity=0)
    events = EventLog(plane.layout.logs / "control.log")
    structlog.configure(
        processors=events.processors(),
        logger_factory=structlog.WriteLoggerFactory(events),  # type: ignore[arg-type]
    )
    try:
        result = (await verdicts(plane, "exhaust.control-log"))["exhaust.control-log"]
    finally:
        structlog.reset_defaults()
        await plane.endpoint.open(path, mode=0o666)
    assert result.verdict is (Verdict.HELD if share == USUAL else Verdict.BROKEN), result


async def test_afterwards_changes_are_made_and_identities_issued(plane: ControlPlane) -> None:
    await plane.apply(plane.declared)
    await plane.keeper.reissue("web")
    async with arena_of(plane) as arena:
        probes = [p for p in envoy_probes(plane.effective) if p.id.startswith("use.")]
        assert {r.verdict for r in (await prove(arena, probes)).results} <= {Verdict.HELD}


async def test_files_that_the_memory_has_no_room_for_are_tried_as_memory() -> None:
    """256 MiB of memory, and 512 MiB of temporary files unless stated: the memory ends first."""
    with public_folder() as directory:
        declaration = directory / "watertight.yaml"
        declaration.write_text(
            "trust_domain: small.internal\n"
            "services: {idle: {run: [sleep, '3600'], limits: {memory: 256MiB}}}\n"
        )
        async with sealed(declaration) as plane:
            probes = [p for p in envoy_probes(plane.declared) if p.id == "exhaust.host"]
            async with arena_of(plane) as arena:
                (result,) = (await prove(arena, probes)).results
    assert result.verdict is Verdict.HELD, result.observed
