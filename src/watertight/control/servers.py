"""The databases and brokers of one running system, each held to its plan by its enforcer."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

import structlog

from watertight.control.clients import (
    Reached,
    all_reached,
    channels_document,
    environment_of,
    told,
)
from watertight.control.present import server_path
from watertight.enforcers.contract import Applied
from watertight.enforcers.registry import resource_enforcers
from watertight.enforcers.resource import (
    ResourceEnforcer,
    ServerPlan,
    ServerProcess,
    Waits,
    Watches,
)
from watertight.errors import WatertightError
from watertight.identity.credential_files import Owner
from watertight.identity.delivery import FileDelivery
from watertight.identity.keeper import SVIDKeeper
from watertight.model.placement import Placement
from watertight.model.system import System
from watertight.runtime.files import write_atomically
from watertight.runtime.layout import Layout
from watertight.runtime.pods import Servers as ServersInPods
from watertight.runtime.server_host import PodHost
from watertight.runtime.supervisor import Supervisor

T = TypeVar("T")

log = structlog.get_logger(__name__)

FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Server:
    """One managed server as it must be."""

    plan: ServerPlan
    process: ServerProcess


@dataclass(frozen=True, slots=True)
class ServersWanted:
    """All that follows from a declaration for its servers and their clients."""

    system: System
    """Without the channels of revoked identities."""
    servers: Mapping[str, Server]
    clients: Mapping[str, Reached]
    """Service → how it reaches each of its resources."""

    @property
    def in_pods(self) -> ServersInPods:
        """What the pods must know."""
        environments = {
            service: environment_of(settings for _, settings in reached.values())
            for service, reached in self.clients.items()
        }
        told_each = {
            service: told(self.system, service, self.clients.get(service, {}))
            for service in self.system.services
        }
        processes = {name: server.process for name, server in self.servers.items()}
        return ServersInPods(processes, environments, told_each)


class Servers:
    """Lives in the control plane's event loop; one change at a time."""

    def __init__(self, supervisor: Supervisor, keeper: SVIDKeeper) -> None:
        self._supervisor = supervisor
        self._keeper = keeper
        self.in_force: dict[str, Server] = {}
        """The managed servers, each as it is now held to be."""
        self._coming: frozenset[str] = frozenset()
        """Servers that are being started: they read their files when they do."""
        self._deliveries: dict[str, FileDelivery] = {}
        self._changed = asyncio.Event()
        self._turns: dict[str, asyncio.Lock] = {}
        """Resource → held by whoever changes its server, or what that grants."""

    async def apply(
        self,
        wanted: ServersWanted,
        tell: Callable[[str, Applied], None] = lambda _name, _its: None,
        *,
        anew: bool = False,
    ) -> None:
        """Gives everybody their files, then starts and converges every server.

        A server whose own identity is revoked stays as it is: it has no certificate, and nobody
        reaches it. ``tell`` is told of each as it is ready. ``anew``: see ``ServerHost``. Raises
        WatertightError if one fails, once all others are done; what that one granted before, it
        grants still.
        """
        self._coming = frozenset(wanted.servers.keys() - self.in_force.keys())
        try:
            await self._deliver_to(wanted)
            await asyncio.to_thread(self._tell_clients, wanted)
            trusted = {n: s for n, s in wanted.servers.items() if not self._keeper.is_revoked(n)}
            await _all_of(self._apply(server, tell, anew) for server in trusted.values())
            kept = {n: s for n, s in self.in_force.items() if n in wanted.servers}
            self.in_force = kept | trusted
        finally:
            self._coming = frozenset()

    async def _apply(
        self, server: Server, tell: Callable[[str, Applied], None], anew: bool
    ) -> None:
        name = server.plan.resource
        host, enforcer = self.host(server, anew=anew), enforcer_of(server.plan)
        async with self._lock_of(name):
            if await host.outlived():
                await host.stop()
            applied = await enforcer.apply(server.plan, host)
            self.in_force[name] = server
        self._coming -= {name}
        self._changed.set()  # its files may have changed since it read them
        tell(name, applied)

    async def revoke(self, wanted: ServersWanted, service: str) -> int:
        """Ends a service's sessions at every server that it had a channel to; how many.

        Raises WatertightError if one fails, once all others are done.
        """
        had = [
            server
            for name, server in wanted.servers.items()
            if name in self.in_force
            and self.in_force[name].plan != server.plan
            and not self._keeper.is_revoked(name)
        ]
        return sum(await _all_of(self._revoke(server, service) for server in had))

    async def _revoke(self, server: Server, service: str) -> int:
        async with self._lock_of(server.plan.resource):
            return await enforcer_of(server.plan).revoke(server.plan, self.host(server), service)

    async def drift(self, wanted: Mapping[str, Server]) -> Mapping[str, tuple[str, ...]]:
        """What differs now from what each server that runs is ``wanted`` to be.

        That need not be what was put in force there: a revocation may be unfinished.
        """

        async def look(server: Server) -> tuple[str, ...]:
            try:
                return tuple(await enforcer_of(server.plan).drift(server.plan, self.host(server)))
            except (WatertightError, OSError) as error:
                return (f"cannot be asked: {error}",)

        there = {name: wanted[name] for name in self.in_force if name in wanted}
        trusted = {n: s for n, s in there.items() if not self._keeper.is_revoked(n)}
        found = await asyncio.gather(*(look(server) for server in trusted.values()))
        return dict(zip(trusted, found, strict=True))

    async def catch_up(self) -> None:
        """Grants what could not be granted before the programs of services had started."""

        async def grant(server: Server) -> None:
            enforcer, name = enforcer_of(server.plan), server.plan.resource
            if not isinstance(enforcer, Waits):
                return
            async with self._lock_of(name):  # a rotation may hold it now, for a moment
                if self.in_force.get(name) is server:
                    await enforcer.catch_up(server.plan, self.host(server))

        for server in list(self.in_force.values()):
            try:
                await grant(server)
            except (WatertightError, OSError) as error:  # it is tried again by whoever watches
                log.info("not_granted", resource=server.plan.resource, reason=str(error))

    async def waiting(self) -> Mapping[str, tuple[str, ...]]:
        """What each server grants once it is there, of what is in force; {} if there is no such."""

        async def look(server: Server) -> tuple[str, ...]:
            enforcer = enforcer_of(server.plan)
            if not isinstance(enforcer, Waits):
                return ()
            try:
                return tuple(await enforcer.waiting(server.plan, self.host(server)))
            except (WatertightError, OSError):
                return ()  # that it cannot be asked is drift

        trusted = {n: s for n, s in self.in_force.items() if not self._keeper.is_revoked(n)}
        found = await asyncio.gather(*(look(server) for server in trusted.values()))
        return {name: lines for name, lines in zip(trusted, found, strict=True) if lines}

    async def settle(self) -> None:
        """Returns once every server uses the identity and the roots that are current.

        Raises WatertightError for the first that does not.
        """
        await asyncio.gather(
            *(
                delivery.deliver() if name in self._coming else delivery.settle()
                for name, delivery in self._deliveries.items()
            )
        )

    async def run(self) -> None:
        """Keeps files and servers current, and looks after servers, until cancelled."""
        await asyncio.gather(self._keep_current(), self._watch())

    async def _watch(self) -> None:
        """Has each server watched as it is now held to be, by enforcers that do so."""
        watched: dict[str, tuple[Server, asyncio.Future[None]]] = {}
        try:
            while True:
                for name, (server, task) in list(watched.items()):
                    if task.done() or self.in_force.get(name) is not server:
                        task.cancel()
                        del watched[name]
                for name, server in self.in_force.items():
                    if name not in watched and isinstance(enforcer_of(server.plan), Watches):
                        watched[name] = (server, asyncio.ensure_future(self._watch_one(server)))
                await asyncio.sleep(FIRST_PAUSE_SECONDS)
        finally:
            for _, task in watched.values():
                task.cancel()

    async def _watch_one(self, server: Server) -> None:
        enforcer, host = enforcer_of(server.plan), self.host(server)
        try:
            if isinstance(enforcer, Watches) and await host.running():
                await enforcer.watch(server.plan, host, lambda: self._turn(server))
        except (WatertightError, OSError) as error:
            log.info("server_not_watched", resource=server.plan.resource, reason=str(error))

    @asynccontextmanager
    async def _turn(self, server: Server) -> AsyncIterator[bool]:
        """See ``Turn``: an apply waits for its end, and it for none."""
        lock = self._lock_of(server.plan.resource)
        if lock.locked() or self.in_force.get(server.plan.resource) is not server:
            yield False
            return
        async with lock:
            yield True

    def _lock_of(self, resource: str) -> asyncio.Lock:
        """Applies, rotations and revocations wait for it, in the order in which they came."""
        return self._turns.setdefault(resource, asyncio.Lock())

    async def _keep_current(self) -> None:
        """What fails is tried again."""
        pause = FIRST_PAUSE_SECONDS
        while True:
            version = self._keeper.version
            self._changed.clear()
            try:
                await self.settle()
                pause = FIRST_PAUSE_SECONDS
                await self._news(version)
            except (WatertightError, OSError) as error:
                log.warning("credentials_not_in_use", reason=str(error), retry_seconds=pause)
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    async def _news(self, version: int) -> None:
        """Returns once an identity, the bundle, or who gets files has changed."""
        waits = [
            asyncio.ensure_future(self._keeper.changed(version)),
            asyncio.ensure_future(self._changed.wait()),
        ]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def _deliver_to(self, wanted: ServersWanted) -> None:
        """A server reloads when its files change; a client reads them when it next connects."""
        layout, before = self._supervisor.layout, self._deliveries
        self._deliveries = {
            name: before.get(name) or self._delivery(layout, name)
            for name in (*wanted.servers, *wanted.clients)
        }
        for delivery in self._deliveries.values():
            await delivery.deliver()
        for name in before.keys() - self._deliveries.keys():
            await before[name].withdraw()

    def _delivery(self, layout: Layout, name: str) -> FileDelivery:
        owner = layout.owner_of_app(name)

        async def rotate() -> None:
            async with self._lock_of(name):
                server = self.in_force.get(name)  # an apply may have ended while we waited
                if server is not None:
                    await enforcer_of(server.plan).rotate(server.plan, self.host(server))

        return FileDelivery(
            self._keeper,
            name,
            layout.placement.credentials(name).parent,
            rotate,
            Owner(*owner) if owner else None,
        )

    def _tell_clients(self, wanted: ServersWanted) -> None:
        """The file that ``watertight.sdk`` reads, and those of other ecosystems beside it."""
        placement = self._supervisor.layout.placement
        for service in wanted.system.services:
            file = placement.channels_file(service)
            reached = wanted.clients.get(service, {})
            files = {k: v for _, settings in reached.values() for k, v in settings.files.items()}
            if reached:
                files[file.name] = channels_document(wanted.system, placement, service, reached)
            for name, text in files.items():
                write_atomically(file.with_name(name), text.encode(), 0o644)
            if not reached:
                file.unlink(missing_ok=True)

    def host(self, server: Server, *, anew: bool = False) -> PodHost:
        """A server's place on this host, for its enforcer."""
        layout = self._supervisor.layout
        return PodHost(self._supervisor, layout, server.plan, server.process, anew=anew)


async def _all_of(steps: Iterable[Awaitable[T]]) -> list[T]:
    """Each to its end, also where another fails. Raises the first error; of several, what all say.

    One server that cannot be changed keeps nobody from changing the others.
    """
    results = await asyncio.gather(*steps, return_exceptions=True)
    wrong = [result for result in results if isinstance(result, BaseException)]
    told = [error for error in wrong if isinstance(error, WatertightError)]
    if len(told) > 1 and len(told) == len(wrong):
        raise WatertightError(
            " ".join(error.message for error in told),
            remedy=" ".join(dict.fromkeys(error.remedy for error in told)),
        )
    if wrong:
        raise wrong[0]
    return [result for result in results if not isinstance(result, BaseException)]


def want(system: System, placement: Placement) -> ServersWanted:
    """What the servers and their clients must be. Looks for programs, changes nothing.

    Raises ServerMissing, or what a ``compile`` raises.
    """
    path = server_path()
    servers = {}
    for enforcer in {id(e): e for e in resource_enforcers().values()}.values():
        for name, plan in enforcer.compile(system, placement).items():
            servers[name] = Server(plan, enforcer.locate(plan, placement, path))
    return ServersWanted(system, servers, all_reached(system, placement))


def enforcer_of(plan: ServerPlan) -> ResourceEnforcer:
    """Who made a plan."""
    return resource_enforcers()[plan.kind]
