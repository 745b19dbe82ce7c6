"""The shape of a kind of server: what is true of it, in class attributes and a few pure methods.

Everything that happens to a server (apply, drift, grant, rotate, revoke) happens the same way to
all: :mod:`watertight.servers.converge` does it, by what a kind says here. A kind is one folder:
``declaration`` (its keys), ``server`` (a subclass of :class:`Server`), ``session`` (what is so at a
running one), ``attacks``; docs/how-to/write-a-server.md builds one, step by step.
"""

import signal
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from watertight.attack.probe import Probe
from watertight.enforcers.contract import Applied
from watertight.enforcers.resource import (
    Client,
    ClientSettings,
    ServerHost,
    ServerPlan,
    ServerProcess,
    managed,
)
from watertight.errors import WatertightError
from watertight.model.declaration import Shape
from watertight.model.placement import Placement
from watertight.model.rules import Flaw
from watertight.model.system import Channel, Resource, System
from watertight.servers.facts import Change, Fact

if TYPE_CHECKING:
    from asyncio import StreamReader, StreamWriter

    from watertight.servers.served import Prelude


class Part(StrEnum):
    """What a running server must take up when it changes."""

    LEAF = "leaf"
    """Its certificate and key."""
    ROOT = "root"
    """The roots that it trusts."""
    CONFIGURATION = "configuration"
    """Its files."""


class Way(StrEnum):
    """How it takes that up."""

    SIGNAL = "signal"
    """``Server.reload_signal``, and it goes on."""
    COMMAND = "command"
    """A session asks it to, and it goes on."""
    RESTART = "restart"
    """It is stopped and started: its clients connect again."""


class RunsOtherwise(WatertightError):
    """The server cannot even be asked, for it runs with something else than its files say, or
    cannot take them up.

    ``message`` is the line that drift tells; only a restart helps.
    """


class Session(Protocol):
    """A running server, as its operator may ask and change it. An async context manager's value."""

    async def stale(self) -> Sequence[str]:
        """What it runs with that its files do not say, a line each; see ``Server.stale_way``."""
        ...

    async def facts(self) -> frozenset[Fact]:
        """All that is so there and that a declaration decides, also what nobody declared."""
        ...

    async def execute(self, changes: Sequence[Change]) -> None:
        """Makes them so, in this order. What holds data goes only if it holds none."""
        ...

    async def take(self, part: Part) -> None:
        """Has the server take up what has changed; only where a kind takes it by COMMAND.

        Returns once it has. Raises :class:`RunsOtherwise` where only a restart helps.
        """
        ...

    async def kick(self, service: str) -> int:
        """Keeps a service out, ends its sessions, and returns once they have ended; how many."""
        ...


class Server(ABC):
    """One kind. Implements :class:`~watertight.enforcers.resource.ResourceEnforcer`."""

    kind: ClassVar[str]
    port: ClassVar[int | None] = None
    """Where it listens for TLS, unless the declaration says another port."""
    originates: ClassVar[tuple[str, ...] | None] = None
    """See ``WellKnown``."""
    also_called: ClassVar[Sequence[str]] = ()
    """What people call it."""
    shapes: ClassVar[Mapping[str, type[Shape]]]
    """``resource`` and ``channel``: the keys of each; and what stands inside them. The JSON Schema
    and the reference are made from them."""
    uses: ClassVar[Sequence[str]]
    """How a use is asked for: ``select TABLE``; see ``Explains``."""
    takes: ClassVar[Mapping[Part, Way]]
    stale_way: ClassVar[Way] = Way.RESTART
    """How it takes up its files where it runs with something else (``Session.stale``)."""
    reload_signal: ClassVar[signal.Signals] = signal.SIGHUP
    live_files: ClassVar[frozenset[str]] = frozenset()
    """Files whose change a session puts in force: no reload, no restart."""
    facts: ClassVar[Sequence[str]] = ()
    """Kinds of fact, in the order in which they are made; they go in the reverse."""
    keeps: ClassVar[frozenset[str]] = frozenset()
    """Kinds of fact that hold data: those that are not empty stay, and are drift."""
    fetched: ClassVar[bool] = False
    """Whether its programs come from where not every machine reaches: tests then go without."""
    remedy: ClassVar[str] = ""
    """What a person can do about a server that does not become what is declared."""
    unfit_remedy: ClassVar[str] = ""
    """And about one of others that cannot be held to what it grants."""

    @property
    def resources(self) -> frozenset[str]:
        """The resource kinds that it enforces."""
        return frozenset({self.kind})

    # What a kind says: pure.

    @abstractmethod
    def check(self, system: System, resource: Resource) -> Iterable[Flaw]:
        """What is wrong with the resource's own keys, and with the channels to it."""

    @abstractmethod
    def files(self, system: System, resource: Resource, placement: Placement) -> Mapping[str, str]:
        """The server's configuration: name → text. No secrets."""

    @abstractmethod
    def grants(self, system: System, resource: Resource) -> Any:
        """What it must grant, besides its files: comparable, and all that ``desired`` needs."""

    @abstractmethod
    def desired(self, grants: Any, found: frozenset[Fact]) -> frozenset[Fact]:
        """The facts that must be so. ``found``: those that are, where it hangs on them (what holds
        more than it may keeps what it holds)."""

    @abstractmethod
    def client(self, system: System, channel: Channel, client: Client) -> ClientSettings:
        """What the service at the start of ``channel`` needs to know."""

    @abstractmethod
    def render(self, system: System, resource: Resource) -> Mapping[str, str]:
        """For a server that others run, the files and commands for its administrator."""

    @abstractmethod
    def granted(self, channel: Channel, action: str, thing: str) -> str | None:
        """See ``Explains``."""

    @abstractmethod
    def probes(self, system: System) -> Iterable[Probe]:
        """Every attack on its servers, and every permitted use, from the declaration alone."""

    def told(self, change: Change) -> str:
        """One difference, in the words of drift and apply."""
        return change.what

    # What a kind does.

    @abstractmethod
    def locate(self, plan: ServerPlan, placement: Placement, search_path: str) -> ServerProcess:
        """Finds the server's programs on this machine. Raises :class:`ServerMissing`."""

    @abstractmethod
    def session(self, plan: ServerPlan, host: ServerHost) -> AbstractAsyncContextManager[Session]:
        """The running server, once it can be asked, also one that has just been started again.

        Raises WatertightError, and :class:`RunsOtherwise` where only a restart helps.
        """

    async def try_files(self, plan: ServerPlan, host: ServerHost) -> None:
        """Raises WatertightError where the server's own program refuses the files that stand."""

    async def before_start(self, plan: ServerPlan, host: ServerHost) -> None:
        """What must be there when the server starts."""

    async def started(self, plan: ServerPlan, host: ServerHost) -> None:
        """The server has been started with the plan's files. Raises WatertightError if it is none
        that can be held to its plan; it is then stopped."""

    async def reload(self, _plan: ServerPlan, host: ServerHost, _part: Part, /) -> None:
        """Has the server take up a part by a signal; a kind may look that it did.

        Raises :class:`RunsOtherwise` where only a restart helps.
        """
        await host.signal(self.reload_signal)

    def file_drift(self, plan: ServerPlan, host: ServerHost) -> list[str]:
        """What differs in the server's directory, a line each."""
        from watertight.servers import converge

        return converge.file_drift(plan, host)

    async def prelude(self, reader: "StreamReader", writer: "StreamWriter") -> None:
        """What its protocol says before TLS begins; see ``servers.served``."""

    def before_tls(self, _plan: ServerPlan) -> "Prelude | None":
        """What is said before TLS at a server of this plan; None: nothing."""
        return self.prelude

    # What the engine does.

    def compile(self, system: System, placement: Placement) -> Mapping[str, ServerPlan]:
        """See ``ResourceEnforcer``."""
        return {r.name: self._plan(system, r, placement) for r in managed(system, self.kind)}

    def _plan(self, system: System, resource: Resource, placement: Placement) -> ServerPlan:
        return ServerPlan(
            resource.name,
            self.kind,
            resource.port,
            self.files(system, resource, placement),
            self.grants(system, resource),
            resource.at,
        )

    async def apply(self, plan: ServerPlan, host: ServerHost) -> Applied:
        """See ``ResourceEnforcer``."""
        from watertight.servers import converge

        return await converge.apply(self, plan, host)

    async def drift(self, plan: ServerPlan, host: ServerHost) -> Sequence[str]:
        """See ``ResourceEnforcer``."""
        from watertight.servers import converge

        return await converge.drift(self, plan, host)

    async def rotate(self, plan: ServerPlan, host: ServerHost) -> None:
        """See ``ResourceEnforcer``."""
        from watertight.servers import converge

        await converge.rotate(self, plan, host)

    async def revoke(self, plan: ServerPlan, host: ServerHost, service: str) -> int:
        """See ``ResourceEnforcer``."""
        from watertight.servers import converge

        return await converge.revoke(self, plan, host, service)
