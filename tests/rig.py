"""One real server under test, without pods: its enforcer, its credentials, and an arena over it.

    async with running_server(PostgreSQLEnforcer(), DECLARATION) as rig:
        assert not_held(await rig.run(rig.probes)) == {}

``{port}`` in the declaration becomes a free port. The server runs as a plain process of an
unprivileged user; the doors that its proxy would make are piped by the test itself. Leaving the
block ends every process, also after a failure.
"""

import asyncio
import contextlib
import json
import math
import os
import pwd
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.ports import free_port
from tests.verify.live import Agents, sockets_of
from watertight.attack.arena import Listening
from watertight.attack.probe import Probe, Verdict
from watertight.enforcers.resource import (
    BoundsDoors,
    Completed,
    ResourceEnforcer,
    ServerMissing,
    ServerPlan,
    ServerProcess,
)
from watertight.errors import WatertightError
from watertight.identity.authority import Authority
from watertight.identity.credential_files import CredentialFiles, Owner
from watertight.identity.hazmat import open_issuer
from watertight.identity.keeper import SVIDKeeper, Workload
from watertight.identity.kek import FileKEK
from watertight.identity.profiles import Role
from watertight.identity.workload_api.splice import Stream, splice
from watertight.model.load import load_text
from watertight.model.placement import Placement
from watertight.model.system import System
from watertight.verify.arena import LiveArena
from watertight.verify.forge import Forger, Signer
from watertight.verify.prover import prove
from watertight.verify.results import Result

SANDBOXED = ("reach.name", "reach.address")
"""Probes that hold only inside a sandbox, which this rig has not."""
STOP_SECONDS = 20.0


class PlainHost:
    """Implements ``ServerHost`` with plain processes on this host's loopback."""

    def __init__(self, plan: ServerPlan, placement: Placement, process: ServerProcess) -> None:
        self.resource = plan.resource
        self.placement = placement
        self.process = process
        self.anew = True
        self.operator = pwd.getpwuid(os.geteuid()).pw_name
        self.user = "nobody" if os.geteuid() == 0 else self.operator
        self.port = plan.port
        self.groups: Sequence[str] = ()
        """Control groups that the server is put into when it is started."""
        self._running: asyncio.subprocess.Process | None = None
        self._watcher: asyncio.subprocess.Process | None = None
        self._log = placement.run_directory / f"{plan.resource}.log"

    @property
    def owner(self) -> Owner | None:
        """Whose the server's files are; None: ours."""
        if os.geteuid():
            return None
        user = pwd.getpwnam(self.user)
        return Owner(user.pw_uid, user.pw_gid)

    @property
    def pid(self) -> int:
        """Of the running server."""
        assert self._running is not None
        return self._running.pid

    def prepare(self) -> None:
        """Makes the server's directories."""
        self.placement.server_directory(self.resource).mkdir(parents=True, mode=0o755)
        for own in (
            self.placement.server_data(self.resource),
            self.placement.server_sockets(self.resource),
        ):
            own.mkdir(parents=True, mode=0o700)
            if self.owner:
                os.chown(own, self.owner.uid, self.owner.gid)

    async def write(self, files: Mapping[str, str]) -> tuple[str, ...]:
        directory = self.placement.server_directory(self.resource)
        changed = []
        for path in directory.iterdir():
            if path.name not in files:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
                changed.append(path.name)
        for name, text in files.items():
            path = directory / name
            if not path.exists() or path.read_text() != text:
                new = path.with_name(f".{name}.new")
                new.write_text(text)
                new.chmod(0o644)
                new.replace(path)
                changed.append(name)
        return tuple(changed)

    async def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        environment: Mapping[str, str] | None = None,
        timeout_seconds: float = 60.0,
    ) -> Completed:
        process = await self._spawn(
            argv, environment or self.process.environment, asyncio.subprocess.PIPE
        )
        try:
            async with asyncio.timeout(timeout_seconds):
                output, _ = await process.communicate(stdin)
        except BaseException:
            _end(process, signal.SIGKILL)
            await process.wait()
            raise
        return Completed(process.returncode or 0, output.decode(errors="replace"))

    async def running(self) -> bool:
        return self._running is not None and self._running.returncode is None

    async def start(self) -> None:
        if await self.running():
            return
        with self._log.open("ab") as log:
            self._running = await self._spawn(
                self._bounded(), self.process.environment, log.fileno()
            )
            await self._watch(self._running.pid, log.fileno())
        for group in self.groups:
            (Path(group) / "cgroup.procs").write_text(str(self.pid))
        deadline = time.monotonic() + self.process.start_seconds
        while True:
            with contextlib.suppress(OSError):
                (await self.connect(self.port)).close()
                return
            if not await self.running() or time.monotonic() > deadline:
                raise WatertightError(f"{self.resource} does not start.", remedy=self.log())
            await asyncio.sleep(0.02)

    def _bounded(self) -> Sequence[str]:
        """The server's command, with the bound of the kernel's that it is to have."""
        most = self.process.process_most_bytes
        if most is None:
            return self.process.argv
        script = 'ulimit -S -d "$0" && exec "$@"'
        return ("/bin/sh", "-c", script, str(most >> 10), *self.process.argv)

    async def _watch(self, server: int, log: int) -> None:
        """What a warden does, of the memory of the server's processes."""
        process = self.process
        if process.process_bytes is None:
            return
        user = [self.owner.uid, self.owner.gid] if self.owner else None
        each, every, spared = process.process_bytes, process.processes_bytes, process.spared
        watcher = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.watching",
            json.dumps([server, each, every, spared, user]),
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            cwd=Path(__file__).parents[1],
        )
        assert watcher.stdout
        assert await watcher.stdout.readline() == b"watching\n"
        self._watcher = watcher

    async def stop(self) -> None:
        if self._running is None:
            return
        _end(self._running, self.process.stop_signal)
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await self._running.wait()
        except TimeoutError:
            pass
        _end(self._running, signal.SIGKILL)  # what is left of its group
        await self._running.wait()
        self._running = None
        if self._watcher is not None:
            await self._watcher.wait()  # it ends with the server
            self._watcher = None

    async def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    async def connect(self, port: int) -> socket.socket:
        made = socket.socket()
        made.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(made, ("127.0.0.1", port))
        except BaseException:
            made.close()
            raise
        return made

    def log(self) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-25:])

    async def _spawn(
        self, argv: Sequence[str], environment: Mapping[str, str], output: int
    ) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.PIPE if output == asyncio.subprocess.PIPE else None,
            stdout=output,
            stderr=asyncio.subprocess.STDOUT,
            cwd=self.placement.server_data(self.resource),
            env={"PATH": os.defpath, "HOME": str(self.placement.server_data(self.resource))}
            | dict(environment),
            user=self.owner.uid if self.owner else None,
            group=self.owner.gid if self.owner else None,
            extra_groups=[] if self.owner else None,
            start_new_session=True,
        )


def _end(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    """The whole group; what it started must not outlive the test."""
    with contextlib.suppress(ProcessLookupError):
        if number is signal.SIGKILL:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)


@dataclass
class Rig:
    """A server under test."""

    enforcer: ResourceEnforcer
    system: System
    plan: ServerPlan
    host: PlainHost
    keeper: SVIDKeeper
    arena: LiveArena
    doors: "Doors"

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
            assert svid is not None
            owner = self.host.owner if name == self.resource else None
            directory = self.host.placement.credentials(name).parent
            CredentialFiles(directory, owner).put(svid, self.keeper.bundle())


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
    try:
        with Authority.open_or_create(run / "authority", system.trust_domain, kek=kek) as authority:
            keeper = SVIDKeeper(authority, _workloads(system))
            await keeper.refresh()
            issuer = open_issuer(run / "authority", kek=kek, reason="a test")

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
                forger=Forger(Signer(issuer.certificate, issuer.private_key, issuer.chain)),
                roots=lambda: keeper.bundle().pem(),
            )
            rig = Rig(enforcer, system, plan, host, keeper, arena, doors)
            rig.deliver()
            async with arena:
                await enforcer.apply(plan, host)
                if isinstance(enforcer, BoundsDoors):
                    doors.bounds = enforcer.door_connections(system, system.resources[resource])
                for channel in system.incoming(resource):
                    await doors.open(resource, channel.source)
                yield rig
    finally:
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


BY_MAVEN = frozenset({"kafka"})
"""Kinds whose programs come from where not every machine reaches; `make test` says so then."""


def located(enforcer: ResourceEnforcer, plan: ServerPlan, placement: Placement) -> ServerProcess:
    """The server's programs; the test is skipped without, or fails where all are required."""
    try:
        return enforcer.locate(plan, placement, f"{os.environ['PATH']}:/usr/sbin")
    except ServerMissing as missing:
        if os.environ.get("WATERTIGHT_REQUIRE_ALL") and plan.kind not in BY_MAVEN:
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


def family_of(pid: int) -> list[int]:
    """A process and all below it."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            with contextlib.suppress(OSError):
                found += family_of(int(child))
    return found


class Doors:
    """What the server's proxy would do: one Unix socket a caller, its bytes passed through."""

    bounds: Mapping[str, int]
    """How many connections at once, by caller."""

    def __init__(self, host: PlainHost, placement: Placement) -> None:
        self._host = host
        self._placement = placement
        self._servers: list[asyncio.Server] = []
        self._passing: set[asyncio.Task[None] | None] = set()
        """Held: the event loop forgets a task that waits, and its server's end would stay open."""
        self.bounds = {}

    async def open(self, resource: str, caller: str) -> None:
        path = self._placement.door(resource, caller)
        path.parent.mkdir(parents=True, exist_ok=True)
        open_now = 0

        async def passing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal open_now
            if open_now >= self.bounds.get(caller, math.inf):
                writer.close()
                return
            open_now += 1
            try:
                await self._pass(reader, writer)
            finally:
                open_now -= 1

        self._servers.append(await asyncio.start_unix_server(passing, path))

    async def close(self) -> None:
        for server in self._servers:
            server.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        self._passing.add(task)
        try:
            inner = await asyncio.open_connection(sock=await self._host.connect(self._host.port))
            await splice(Stream(reader, writer), Stream(*inner))
        except OSError:
            writer.close()
        finally:
            self._passing.discard(task)


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
