"""One real server under test, without pods: its enforcer, its credentials, and an arena over it.

    async with running_server(PostgreSQLEnforcer(), DECLARATION) as rig:
        assert not_held(await rig.run(rig.probes)) == {}

``{port}`` in the declaration becomes a free port. The server runs as a plain process of an
unprivileged user; the doors that its proxy would make are piped by the test itself. Leaving the
block ends every process, also after a failure.
"""

import contextlib
import datetime as dt
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

import watertight.enforcers.registry  # noqa: F401 - tells the model which kinds there are
from watertight.attack.arena import Listening
from watertight.attack.probe import Probe, Verdict
from watertight.enforcers.resource import (
    BoundsDoors,
    ResourceEnforcer,
    ServerMissing,
    ServerPlan,
    ServerProcess,
)
from watertight.identity.authority import Authority
from watertight.identity.credential_files import CredentialFiles
from watertight.identity.hazmat import open_issuer
from watertight.identity.keeper import SVIDKeeper, Workload
from watertight.identity.kek import FileKEK
from watertight.identity.profiles import Role
from watertight.identity.retirement import RetirementEvidence
from watertight.identity.slots import Kind, Status
from watertight.model.load import load_text
from watertight.model.placement import Placement
from watertight.model.system import System
from watertight.testing.doors import Doors
from watertight.testing.host import PlainHost
from watertight.testing.ports import free_port
from watertight.testing.processes import Agents, family_of, sockets_of
from watertight.verify.arena import LiveArena
from watertight.verify.forge import Forger, Signer
from watertight.verify.prover import prove
from watertight.verify.results import Result

SANDBOXED = ("reach.name", "reach.address")
"""Probes that hold only inside a sandbox, which this rig has not."""


@dataclass
class Rig:
    """A server under test."""

    enforcer: ResourceEnforcer
    system: System
    plan: ServerPlan
    host: PlainHost
    keeper: SVIDKeeper
    arena: LiveArena
    doors: Doors
    forger: Callable[[], Forger]
    """One who has the key of the issuer that is active now."""

    @property
    def resource(self) -> str:
        """Its name."""
        return self.plan.resource

    @property
    def probes(self) -> tuple[Probe, ...]:
        """All that can hold without a sandbox."""
        every = self.enforcer.probes(self.system)
        return tuple(p for p in every if not p.id.startswith(SANDBOXED))

    async def run(self, probes: Collection[Probe]) -> tuple[Result, ...]:
        """What came of these probes."""
        return (await prove(self.arena, probes)).results

    def compile(self, system: System) -> ServerPlan:
        """The plan of the server for another system."""
        return self.enforcer.compile(system, self.host.placement)[self.resource]

    def deliver(self) -> None:
        """Puts everybody's present SVID and the present bundle in place, as files."""
        for name in self.system.workloads():
            svid = self.keeper.x509_svid(name)
            if svid is None:
                raise LookupError(f"{name} has no SVID")
            owner = self.host.owner if name == self.resource else None
            directory = self.host.placement.credentials(name).parent
            CredentialFiles(directory, owner).put(svid, self.keeper.bundle())

    async def restart_with(self, files: Mapping[str, str]) -> None:
        """Starts the server again with other files, past its enforcer. Raises WatertightError."""
        await self.host.write({**self.plan.files, **files})
        await self.host.stop()
        await self.host.start()

    async def rotate_root(self) -> None:
        """Another root for all, published before it signs; the old one ends. As in production.

        Raises WatertightError.
        """
        sequence = self.keeper.prepare_root()
        await self._in_use()
        await self.keeper.activate_root(sequence)
        await self._in_use()
        authority = self.keeper.authority
        evidence = RetirementEvidence(
            live_issuers=self.keeper.live_issuers(),
            acknowledged_sequence=self.keeper.bundle().sequence,
            observed_at=dt.datetime.now(dt.UTC),
        )
        for slot in authority.status().slots:
            if (slot.kind, slot.status) == (Kind.ROOT, Status.OLD):
                authority.retire_root(slot.id, evidence)
        await self._in_use()
        self.arena.forger = self.forger()

    async def _in_use(self) -> None:
        self.deliver()
        await self.enforcer.rotate(self.plan, self.host)


@asynccontextmanager
async def running_server(
    enforcer: ResourceEnforcer, declaration: str, files: Mapping[str, str] | None = None
) -> AsyncIterator[Rig]:
    """The one resource of ``declaration``, applied, until the block ends.

    ``files``: name → text of what stands beside the declaration.
    """
    system = load_text(declaration.replace("{port}", str(free_port())))
    (resource,) = system.resources
    base = _project(files or {})
    run = base / "r"
    placement = Placement(run, base, shared_network=True)
    plan = enforcer.compile(system, placement)[resource]
    process = located(enforcer, plan, placement)
    host = PlainHost(plan, placement, process)
    host.prepare()
    agents, doors = Agents(), Doors(host, placement)
    kek = FileKEK(run / "kek")
    forgers = contextlib.ExitStack()
    try:
        with Authority.open_or_create(run / "authority", system.trust_domain, kek=kek) as authority:
            keeper = SVIDKeeper(authority, _workloads(system))
            await keeper.refresh()

            def forger() -> Forger:
                issuer = open_issuer(run / "authority", kek=kek, reason="a test")
                made = Forger(Signer(issuer.certificate, issuer.private_key, issuer.chain))
                forgers.callback(made.close)
                return made

            async def listening() -> Sequence[Listening]:
                found = []
                for pid in family_of(host.pid):
                    with contextlib.suppress(FileNotFoundError):  # it ended while we looked
                        found += [Listening(resource, "server", a) for a in sockets_of(pid)]
                return found

            arena = LiveArena(
                system,
                placement,
                foothold=agents.run,
                listening=listening,
                forger=forger(),
                roots=lambda: keeper.bundle().pem(),
            )
            rig = Rig(enforcer, system, plan, host, keeper, arena, doors, forger)
            rig.deliver()
            async with arena:
                await enforcer.apply(plan, host)
                if isinstance(enforcer, BoundsDoors):
                    doors.bounds = enforcer.door_connections(system, system.resources[resource])
                for channel in system.incoming(resource):
                    await doors.open(resource, channel.source)
                yield rig
    finally:
        forgers.close()
        await doors.close()
        await agents.stop()
        await host.stop()
        _end_strays(base)
        shutil.rmtree(base)


def _end_strays(base: Path) -> None:
    """Daemons that a server started and left (epmd): in a pod they end with its processes."""
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and os.fsencode(base) in (entry / "environ").read_bytes():
                os.kill(int(entry.name), signal.SIGKILL)


def located(enforcer: ResourceEnforcer, plan: ServerPlan, placement: Placement) -> ServerProcess:
    """The server's programs; the test is skipped without, or fails where all are required."""
    try:
        return enforcer.locate(plan, placement, f"{os.environ['PATH']}:/usr/sbin")
    except ServerMissing as missing:
        if os.environ.get("WATERTIGHT_REQUIRE_ALL") and not getattr(enforcer, "fetched", False):
            raise
        pytest.skip(f"{missing} {missing.remedy}")


def _project(files: Mapping[str, str]) -> Path:
    """A short directory through which the server's user may pass, with the declaration's files."""
    base = Path(tempfile.mkdtemp(prefix="wt-"))
    base.chmod(0o711)
    for directory in (base / "r", base / ".watertight"):
        directory.mkdir(mode=0o711)
    for name, text in files.items():
        (base / name).parent.mkdir(parents=True, exist_ok=True)
        (base / name).write_text(text)
    return base


def _workloads(system: System) -> list[Workload]:
    return [
        Workload(name, role=Role.SERVERS if name in system.resources else Role.SERVICES)
        for name in system.workloads()
    ]


def not_held(results: Collection[Result]) -> dict[str, str]:
    """Probe and channel → verdict and what was seen, of those that did not hold."""
    return {
        f"{r.id} on {r.channel}: {r.attempt}": f"{r.verdict}: {r.observed}"
        for r in results
        if r.verdict is not Verdict.HELD
    }


def with_channels(system: System, *keep: str) -> System:
    """The system with the channels of these services only."""
    return replace(system, channels=tuple(c for c in system.channels if c.source in keep))
