"""The shape of an enforcer whose enforcement point is a server of somebody else's making.

A database or broker enforces what its channels grant by itself: it takes TLS end to end, maps the
client's SVID to a role of its own, and knows what that role may do. So such an enforcer says how
the server must be configured (:meth:`ResourceEnforcer.compile`, pure), makes it so
(:meth:`~ResourceEnforcer.apply`), and attacks it (``probes``). Everything else, it is given: who
starts the server, in which sandbox, with which files (:class:`ServerHost`), and how bytes reach it.

docs/how-to/write-a-server.md builds one, step by step.
"""

import signal
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeAlias, TypeVar, runtime_checkable

from pydantic import ValidationError

from watertight.attack.probe import Probe
from watertight.enforcers.contract import Applied
from watertight.errors import ExitCode, WatertightError
from watertight.model.declaration import ChannelShape, ResourceShape, Shape
from watertight.model.diff import Change
from watertight.model.document import DocumentPath
from watertight.model.findings import Finding
from watertight.model.placement import Placement
from watertight.model.rules import Flaw
from watertight.model.system import Channel, Position, Resource, System
from watertight.model.translate import keys_of, shape_flaws

CERTIFICATE = "certificate.pem"
"""The SVID's chain, leaf first."""
PRIVATE_KEY = "private_key.pem"
COMBINED = "combined.pem"
"""Key and chain in one file, for software that can read both from one."""
BUNDLE = "bundle.pem"
"""The roots to trust."""

S = TypeVar("S", bound=Shape)

Turn: TypeAlias = Callable[[], AbstractAsyncContextManager[bool]]
"""Within it, nobody else changes what the server grants. Never waits; false: it is not to be had,
or the plan is not in force any more."""


class ServerMissing(WatertightError):
    """The server's program is not installed; the remedy says what to install."""


class ServerRefused(WatertightError):
    """The server does not do what the declaration asks of it: at a line, in the server's words."""

    def __init__(self, at: Position, message: str, remedy: str = "") -> None:
        super().__init__(f"{at}: {message}", remedy=remedy)
        self.at = at


class AdminRefused(WatertightError):
    """An administrator's channel that cannot be used as it is said."""

    exit_code = ExitCode.MISUSE


@dataclass(frozen=True, slots=True)
class ServerPlan:
    """All that one server must be: pure, and comparable, so that a plan is a diff of two."""

    resource: str
    kind: str
    port: int
    """On 127.0.0.1 of the server's own network."""
    files: Mapping[str, str]
    """Configuration below :meth:`Placement.server_directory`: name → text. No secrets."""
    grants: Any
    """What the server must grant to whom, in a form of the enforcer's own."""
    at: Position


@dataclass(frozen=True, slots=True)
class ServerProcess:
    """How the server is started. ``argv[0]`` is absolute."""

    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    stop_signal: signal.Signals = signal.SIGTERM
    """What makes it end without waiting for its clients."""
    programs: tuple[Path, ...] = ()
    """Directories and files that it needs besides the system's own."""
    start_seconds: float = 30.0
    """How long until it accepts, at most."""
    process_bytes: int | None = None
    """Own memory that each process that it makes may take; who takes more is told to end."""
    process_most_bytes: int | None = None
    """What each may ask the kernel for at all (RLIMIT_DATA), in one leap."""
    processes_bytes: int | None = None
    """What all of them may take together; at three quarters, the largest are told to end."""
    spared: tuple[str, ...] = ()
    """Titles of those that are never told so."""


@dataclass(frozen=True, slots=True)
class Completed:
    """How a command ended."""

    status: int
    output: str
    """stdout and stderr, as they came."""


class ServerHost(Protocol):
    """One server's place on this host: what an enforcer may do there, and nothing else.

    Paths are those of :class:`Placement`; the server sees the same. Everything that runs here
    runs as the server's own user, in its sandbox and its network.
    """

    resource: str
    placement: Placement
    user: str
    """The server's user, as a name that resolves inside its sandbox."""
    operator: str
    """The operator's user (who connects to the server's Unix sockets), by a name inside."""
    process: ServerProcess
    anew: bool
    """Whether a person asks for the declaration to be applied: then, and only then, a file of the
    project that has changed is put in force."""

    async def write(self, files: Mapping[str, str]) -> tuple[str, ...]:
        """Makes ``server_directory`` hold exactly these files; says which changed or went.

        Each is swapped in whole; the server can read them and not write them.
        """
        ...

    async def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        environment: Mapping[str, str] | None = None,
        timeout_seconds: float = 60.0,
    ) -> Completed:
        """Runs a command to its end. Raises WatertightError if it cannot start or takes longer."""
        ...

    async def running(self) -> bool:
        """Whether the server's process runs."""
        ...

    async def start(self) -> None:
        """Starts the server, and returns once it accepts on its port. Raises WatertightError."""
        ...

    async def stop(self) -> None:
        """Ends the server, and returns once it has ended."""
        ...

    async def signal(self, number: signal.Signals) -> None:
        """Sends the server a signal."""
        ...

    async def connect(self, port: int) -> socket.socket:
        """A TCP connection to 127.0.0.1 in the server's network, non-blocking. Raises OSError."""
        ...

    def log(self) -> str:
        """The end of what the server has printed, for error messages."""
        ...


@dataclass(frozen=True, slots=True)
class Client:
    """How one service reaches one resource, as its SDK and its environment tell it."""

    host: str
    """The name that the server's certificate carries."""
    address: str
    """The loopback address behind it (in a namespace of its own, ``host`` resolves to it)."""
    port: int
    credentials: Path
    """The directory of the service's own SVID, as files."""
    originate: bool = False
    """The service's proxy speaks mTLS: the client speaks in the clear, and presents nothing."""
    named: bool = True
    """Whether ``host`` resolves to ``address`` where the service runs (not in a shared network)."""


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """What a client must be told besides where the server is."""

    parameters: Mapping[str, str]
    """For ``watertight.sdk``: ``database``, ``user``, ``virtual_host`` …"""
    environment: Mapping[str, str] = field(default_factory=dict)
    """In the words of each ecosystem: ``PGSSLCERT`` …; no secrets, only where they lie."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Further configuration files that stand beside ``channels.json``: name → text. A name begins
    with the resource's."""


class ResourceEnforcer(Protocol):
    """One kind of server that enforces what channels grant. Stateless: made anew at will."""

    @property
    def kind(self) -> str:
        """As a declaration names it."""
        ...

    @property
    def resources(self) -> frozenset[str]:
        """The resource kinds that it enforces: ``{kind}``."""
        ...

    def check(self, system: System, resource: Resource) -> Iterable[Flaw]:
        """Pure: what is wrong with the resource's own keys, and with the channels to it."""
        ...

    def compile(self, system: System, placement: Placement) -> Mapping[str, ServerPlan]:
        """Pure: the plan of each managed server of its kind, by resource."""
        ...

    def client(self, system: System, channel: Channel, client: Client) -> ClientSettings:
        """Pure: what the service at the start of ``channel`` needs to know."""
        ...

    def render(self, system: System, resource: Resource) -> Mapping[str, str]:
        """Pure: for a server that others run, the files and commands for its administrator."""
        ...

    def locate(self, plan: ServerPlan, placement: Placement, search_path: str) -> ServerProcess:
        """Finds the server's programs on this machine. Raises :class:`ServerMissing`."""
        ...

    async def apply(self, plan: ServerPlan, host: ServerHost) -> Applied:
        """Initialises, starts, and converges the server to its plan. A second run changes nothing.

        ``changed`` names what was not so, also what somebody had changed by hand. Raises
        WatertightError; then what the server granted before, it grants still.
        """
        ...

    async def drift(self, plan: ServerPlan, host: ServerHost) -> Sequence[str]:
        """What differs from the plan now, a line each; changes nothing."""
        ...

    async def rotate(self, plan: ServerPlan, host: ServerHost) -> None:
        """New credential files stand: has the server use them, and looks that it does.

        Established sessions go on. Raises WatertightError.
        """
        ...

    async def revoke(self, plan: ServerPlan, host: ServerHost, service: str) -> int:
        """Ends the sessions of a service that ``plan`` no longer grants anything; how many."""
        ...

    def probes(self, system: System) -> Iterable[Probe]:
        """Every attack on its servers, and every permitted use, from the declaration alone."""
        ...


@runtime_checkable
class GrantsElsewhere(Protocol):
    """What an enforcer also has whose kind of server can be told from outside what to grant."""

    admin_form: str
    """How an administrator's channel is said: ``https://USER@HOST:15671``."""

    async def grant(
        self, system: System, resource: Resource, admin: str, *, dry_run: bool = False
    ) -> tuple[str, ...]:
        """Gives channels what they grant at a server that others run, as its administrator.

        ``admin`` says how to reach it, in a form of the enforcer's own, and holds no secret.
        Returns what was changed, or with ``dry_run`` what would be. Raises :class:`AdminRefused`
        for an ``admin`` that cannot be, WatertightError if the server refuses.
        """
        ...


@runtime_checkable
class KnowsWeaknesses(Protocol):
    """What an enforcer also has whose kind of server leaves open what nobody can close."""

    def weaknesses(self, system: System) -> Iterable[Finding]:
        """Pure: what the proof must say, though every probe may hold."""
        ...


@runtime_checkable
class ReadsFiles(Protocol):
    """What an enforcer also has whose resources name files of the project."""

    def project_files(self, resource: Resource) -> Mapping[str, str]:
        """Pure: key of the resource → the file that it names, relative to the declaration."""
        ...


@runtime_checkable
class WellKnown(Protocol):
    """What an enforcer also has whose servers listen where everybody looks for them."""

    port: int | None
    """Where they listen for TLS, unless the declaration says another port; None: nowhere usual."""
    originates: tuple[str, ...] | None
    """The client's proxy may speak mTLS for a client that cannot, with this ALPN; None: it may not,
    for the protocol starts in the clear, or its clients insist on TLS of their own."""
    also_called: Sequence[str]
    """What people call the kind."""


@runtime_checkable
class HasKeys(Protocol):
    """What an enforcer also has that says which keys its resources and channels have."""

    shapes: Mapping[str, type[Shape]]
    """``resource``, ``channel``, and what stands inside them; the reference is made from it."""


@runtime_checkable
class Explains(Protocol):
    """What an enforcer also has that can say of one use whether a channel grants it."""

    uses: Sequence[str]
    """How a use is asked for: ``select TABLE``."""

    def granted(self, channel: Channel, action: str, thing: str) -> str | None:
        """Pure: the grant that allows it, as it is declared; None if none does.

        Raises ValueError for an action that the kind does not know.
        """
        ...


@runtime_checkable
class Forgets(Protocol):
    """What an enforcer also has whose servers keep something for a service, as its position."""

    def forgotten(self, before: System, after: System) -> Iterable[Change]:
        """Pure: what would be lost by going from one declaration to the next, though nobody says
        so; a revocation loses nothing of it."""
        ...


@runtime_checkable
class Watches(Protocol):
    """What an enforcer also has whose kind of server must be looked after while it runs."""

    async def watch(self, plan: ServerPlan, host: ServerHost, turn: Turn, /) -> None:
        """Ends whoever takes what all others share, until it is cancelled.

        Where a grant is about what a service makes, it is given once that is there: only within a
        ``turn``. Raises WatertightError or OSError when it cannot; it is then called again.
        """
        ...


@runtime_checkable
class Waits(Protocol):
    """What an enforcer also has whose grants may be about what services make themselves."""

    async def catch_up(self, plan: ServerPlan, host: ServerHost) -> Sequence[str]:
        """Grants what is declared about what has come since ``apply``; what was done, a line each.
        Call it within a turn.

        Raises WatertightError or OSError.
        """
        ...

    async def waiting(self, plan: ServerPlan, host: ServerHost) -> Sequence[str]:
        """What is declared, but about something that is not there yet, a line each.

        No drift: it is granted once it is there. Raises WatertightError or OSError.
        """
        ...


@runtime_checkable
class BoundsDoors(Protocol):
    """What an enforcer also has whose server can be filled by connections that never log in."""

    def door_connections(self, system: System, resource: Resource) -> Mapping[str, int]:
        """Pure: service → how many connections its door lets through at once, logged in or not."""
        ...


def keys(
    shape: type[S], path: DocumentPath, options: Mapping[str, Any]
) -> tuple[S | None, tuple[Flaw, ...]]:
    """Reads the keys of a resource or channel as a strict shape: what it says, or what is wrong."""
    try:
        return shape.model_validate(dict(options)), ()
    except ValidationError as error:
        common = keys_of(ResourceShape if path[:1] == ("resources",) else ChannelShape)
        return None, tuple(shape_flaws(shape, path, error, also=common))


def channels_to(system: System, resource: str) -> Iterator[tuple[DocumentPath, Channel]]:
    """The channels to one resource, each with its path in the document."""
    for number, channel in enumerate(system.channels):
        if channel.target == resource:
            yield ("channels", number), channel


def managed(system: System, kind: str) -> Iterator[Resource]:
    """The resources of one kind whose servers we run."""
    return (r for r in system.resources.values() if r.kind == kind and not r.external)
