"""The shape of an enforcer, and of the probes with which it is attacked (DESIGN.md section 6).

A new enforcer is one folder that implements :class:`Enforcer` and registers itself under the
entry point ``watertight.enforcers``.
"""

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from watertight.enforcers.witness import Witness
from watertight.model.system import System

if TYPE_CHECKING:
    from cryptography import x509

ProbeKind = Literal["attack", "use"]


class Outcome(StrEnum):
    """What a probe saw. A fact, not a verdict."""

    SERVED = "served"
    REFUSED = "refused"
    NOT_RUN = "not_run"


class Verdict(StrEnum):
    """Whether what was seen is what was declared."""

    HELD = "held"
    BROKEN = "broken"
    NOT_RUN = "not_run"


@dataclass(frozen=True, slots=True)
class Observation:
    """One fact: what happened, and in which words the other side said so."""

    outcome: Outcome
    detail: str
    pairs: tuple[str, ...] = ()
    """Of a probe that stands for many channels: those of which this was seen, if not of all."""
    needs_key_of: str = ""
    """The issuer for want of whose private key the attempt could not be made."""


def served(detail: str, pairs: Iterable[str] = ()) -> Observation:
    """The attempt got through (on these channels, if the probe stands for many)."""
    return Observation(Outcome.SERVED, detail, tuple(pairs))


def refused(detail: str) -> Observation:
    """The attempt was turned away by what was attacked (not by the absence of it)."""
    return Observation(Outcome.REFUSED, detail)


def not_run(detail: str, pairs: Iterable[str] = ()) -> Observation:
    """The attempt could not be made (on these channels); this never counts as held."""
    return Observation(Outcome.NOT_RUN, detail, tuple(pairs))


def no_key(issuer: str) -> Observation:
    """The attempt takes a token of that issuer, and nobody lent the key to sign one."""
    detail = (
        f"it takes a token of issuer {issuer}: lend its private key with "
        f"--token-key {issuer}=FILE, or leave such probes out with --without-tokens"
    )
    return Observation(Outcome.NOT_RUN, detail, needs_key_of=issuer)


ATTEMPTS_A_DEADLINE = 20
"""What one deadline of the prover is for."""


@dataclass(frozen=True, slots=True)
class Probe:
    """One attack, or one permitted use, tried for real against a running channel."""

    id: str
    """Stable, dotted: ``tls.no-client-certificate``."""
    enforcer: str
    channel: str
    """``storefront -> orders``, also for pairs that were not declared; ``outside -> gateway``."""
    kind: ProbeKind
    attempt: str
    """One line that a person understands: what is tried."""
    expected: Outcome
    run: Callable[["Arena"], Awaitable[Observation]] = field(repr=False)
    pairs: tuple[str, ...] = ()
    """The channels that it stands for, where one look answers for many: ``channel`` has a ``*``
    then. What was seen names those for which it differs."""
    patience: float = 1.0
    """How many times the prover's deadline it may take."""

    deadline_seconds: float | None = None
    """How long it may take, where it says so itself."""

    waits: bool = False
    """Whether it does little but wait: it begins before the others, which work meanwhile."""

    costly: bool = False
    """Whether it takes so much work that ``verify --sample`` may try it on a few channels only."""

    narrowed: Callable[[Collection[str]], "Probe"] | None = field(default=None, repr=False)
    """The same for some of its ``pairs``; where it is costly and stands for many."""

    def waiting(self) -> "Probe":
        """The same probe, as one that waits."""
        return replace(self, waits=True)

    def standing_for(self, pairs: Iterable[str]) -> "Probe":
        """The same probe, for these channels, one attempt each."""
        every = tuple(pairs)
        return replace(self.attempting(len(every)), pairs=every)

    def attempting(self, times: int) -> "Probe":
        """The same probe, with the patience that so many attempts one after another take."""
        return replace(self, patience=max(1.0, times / ATTEMPTS_A_DEADLINE))


@dataclass(frozen=True, slots=True)
class Deep:
    """How far a search for attacks that nobody listed may go."""

    seed: int
    seconds: float
    """For each search; they run at the same time."""
    cases: int | None = None
    """At most so many attacks a search, so that a test always tries the same."""


@dataclass(frozen=True, slots=True)
class Gap:
    """What no probe tries, said in the first screen of every report."""

    enforcer: str
    channel: str
    """As a probe's; ``every channel`` where it is not one channel's matter."""
    what: str
    """One line: what is not tried, and why."""


@dataclass(frozen=True, slots=True)
class Credential:
    """A client credential for an attack, as files (0600, in a directory that the prober removes).

    ``certificate`` is a PEM chain, leaf first; both are None for 'no certificate'.
    """

    certificate: Path | None = None
    private_key: Path | None = None


@dataclass(frozen=True, slots=True)
class Forgery:
    """What is wrong with a forged SVID; the defaults are a right one.

    ``issuer``: ``ours`` (the active issuing intermediate), ``foreign`` (an unknown authority with
    the same names), ``self`` (self-signed).
    """

    uri_sans: tuple[str, ...] = ()
    dns_sans: tuple[str, ...] = ()
    common_name: str = ""
    organization: str = ""
    """O of the Subject; only with one does the Subject hold ``unit``."""
    unit: str = "services"
    """OU of the Subject."""
    issuer: Literal["ours", "foreign", "self"] = "ours"
    not_before_seconds: int = -60
    """Relative to now."""
    not_after_seconds: int = 300
    is_ca: bool = False
    extended_key_usages: "tuple[x509.ObjectIdentifier, ...] | None" = None
    """None: serverAuth and clientAuth, as every SVID has."""


class Inside(Protocol):
    """A foothold inside one service's sandbox, with the rights of its (compromised) app."""

    async def call(self, operation: str, **arguments: Any) -> dict[str, Any]:
        """Runs one operation of the probe agent (``verify/agent.py``) and returns its answer.

        Operations: ``raw(host, port, data, timeout_seconds, idle_seconds)`` → ``{data, closed}``;
        ``resolve(name)`` → ``{addresses}``; ``resolve_all(names)`` → ``{addresses}``, by name;
        ``connect_all(addresses)``, name → (host, port) → ``{taken, reasons}``;
        ``unix(paths)`` → ``{connected, reasons}``; ``list(names)`` → ``{listed}`` (directories
        that open); ``interfaces()`` → ``{names}``; ``memory()`` → ``{seen, readable}`` (pids of
        proxies); ``open(host, port)`` → ``{stream}``,
        ``send(stream, data)``, ``receive(stream, timeout_seconds)`` → ``{data, closed}``,
        ``ask(stream, data, timeout_seconds)``: both, up to what seems a whole answer in HTTP/1.1,
        ``finish(stream)`` (nothing more is sent),
        ``close(stream)``: a connection that lasts; ``open(path)`` to a Unix socket;
        ``knock(path, count)`` → ``{taken}``: connects and closes; ``kernel(calls, refusals)`` →
        ``{taken, refused}``; ``kept(key, make)`` → ``{there}`` (what outlives a program);
        and, to use up what the sandbox may have, ``threads(most)``,
        ``balloon(most)``, ``fill(places, most)``, ``descriptors(most)`` → ``{got}``, and
        ``unread(most)``, held until the agent ends; ``netlink()`` → ``{unread}`` (bytes).
        Bytes travel as base64. Each may answer ``{error}`` instead.
        """
        ...


@dataclass(frozen=True, slots=True)
class Listening:
    """A socket that a process of ours listens on, as /proc tells it."""

    workload: str
    process: str
    """``proxy`` or ``app``, or ``unknown`` for a stray."""
    address: str
    """``127.0.0.1:8000``, ``unix:/run/…``."""


class Arena(Protocol):
    """The running system, as an attacker with the operator's rights can touch it.

    The prober makes one; probes use nothing else.
    """

    system: System
    """What is in force (revoked identities left out)."""
    placement: "Placement"
    """Where on this host the sockets of the mesh are."""

    async def inside(self, service: str) -> Inside:
        """A foothold in that service's sandbox. Raises if the sandbox does not run."""
        ...

    def alone(self, service: str) -> AbstractAsyncContextManager[Inside]:
        """A foothold of one's own, for what would disturb the others in the same one."""
        ...

    def address(self, caller: str, callee: str) -> str:
        """The host part under which ``caller``'s app finds ``callee``, declared or not.

        The plain name; in a shared network the loopback address of that pair.
        """
        ...

    def door(self, callee: str, caller: str) -> Path:
        """The Unix socket on which ``callee``'s proxy awaits ``caller``; it need not exist."""
        ...

    def doors(self, callee: str) -> Sequence[Path]:
        """Every Unix socket on which ``callee``'s proxy listens for peers."""
        ...

    def witness(self, service: str, port: int) -> AbstractAsyncContextManager["Witness | None"]:
        """A look at all that passes between ``service``'s proxy and its app on ``port``.

        None where the operator has not the right to look.
        """
        ...

    def roots(self) -> bytes:
        """The trust bundle as PEM."""
        ...

    async def svid(self, service: str) -> Credential:
        """A genuine, fresh SVID of that service (as stolen from it)."""
        ...

    async def forge(self, forgery: Forgery) -> Credential:
        """A credential with exactly that wrong with it."""
        ...

    async def listening(self) -> Sequence[Listening]:
        """Every socket that any managed process listens on now."""
        ...

    async def token(
        self, issuer: str, *, header: Mapping[str, Any] | None = None, **claims: Any
    ) -> str | None:
        """A JWT signed by that issuer's real key, if its key is at hand (else None).

        A right one but for the header parameters and claims given; a claim given as None is
        left out.
        """
        ...

    async def public_key(self, issuer: str) -> bytes | None:
        """That key's public half, as anyone can fetch it: PEM (RFC 7468), if it is at hand."""
        ...


@dataclass(frozen=True, slots=True)
class Capability:
    """What an enforcer can do without a restart; the rest of the program plans around it."""

    rotates_leaf_live: bool = True
    rotates_root_live: bool = True
    cuts_sessions: bool = True
    lowest_tls: Literal["1.2", "1.3"] = "1.3"
    """The lowest version that its server can be held to."""


@dataclass(frozen=True, slots=True)
class Cut:
    """What a revocation ended."""

    spiffe_id: str
    sessions: int
    """Connections that it had open, and that others had open to it, the gateway included."""
    seconds: float


@dataclass(frozen=True, slots=True)
class Applied:
    """What is in force after ``apply``: name of each artefact → its version (a content hash)."""

    versions: Mapping[str, str]
    changed: tuple[str, ...]


class Enforcer(Protocol):
    """One kind of place where policy is enforced."""

    kind: str
    capability: Capability

    def compile(self, system: System, placement: "Placement") -> Any:
        """Pure: the full set of artefacts for this system."""
        ...

    async def apply(self, artifacts: Any) -> Applied:
        """Makes them so. Idempotent: a second run changes nothing. Returns when in force."""
        ...

    def probes(self, system: System) -> Iterable[Probe]:
        """Every attack and every permitted use that follows from the declaration."""
        ...

    # ``deep_probes(system, deep: Deep) -> Iterable[Probe]``, if there is one, makes the searches of
    # ``verify --deep``: generated attacks, judged by the declaration alone.
    # ``unattacked(system) -> Iterable[Gap]``, if there is one, tells what ``probes`` leaves out.


@dataclass(frozen=True, slots=True)
class Placement:
    """Where things run on this host: the only facts of the machine that a compile may know."""

    run_directory: Path
    """Short (a Unix socket's path has 107 bytes)."""
    project_directory: Path
    """Where the declaration stands; relative paths in it start here."""
    shared_network: bool = False
    """True where the kernel allows no namespaces: every service on the host's own loopback."""
    svid_ttl_seconds: int = 3600
    open_files: int = 65_536
    """How many a proxy may have."""

    def proxy_directory(self, workload: str) -> Path:
        """Private to one proxy: its bootstrap, its admin socket."""
        return self.run_directory / "proxies" / workload

    def admin_socket(self, workload: str) -> Path:
        """Envoy's admin interface of one proxy."""
        return self.proxy_directory(workload) / "admin.sock"

    def xds_socket(self, workload: str) -> Path:
        """Where the control plane serves exactly one proxy."""
        return self.run_directory / "xds" / workload / "ads.sock"

    def door_directory(self, callee: str) -> Path:
        """Where one callee's proxy makes its doors; other proxies may pass through."""
        return self.run_directory / "mesh" / callee

    def door(self, callee: str, caller: str) -> Path:
        """A channel is a socket: where ``callee``'s proxy awaits exactly ``caller``."""
        return self.door_directory(callee) / f"{caller}.sock"

    def credentials(self, workload: str) -> Path:
        """The current SVID and trust bundle of a workload that reads files (identity.delivery)."""
        return self.run_directory / "credentials" / workload / "current"

    def server_directory(self, resource: str) -> Path:
        """The configuration of one server: we write it, the server reads it."""
        return self.run_directory / "servers" / resource

    def server_sockets(self, resource: str) -> Path:
        """Where one server makes its Unix sockets: the server and the operator pass."""
        return self.run_directory / "sockets" / resource

    def server_data(self, resource: str) -> Path:
        """Where one server keeps what it stores; it survives."""
        return self.project_directory / ".watertight" / "data" / resource

    def channels_file(self, service: str) -> Path:
        """Where one service reads how to reach its resources (``enforcers.resource.Client``)."""
        return self.run_directory / "workload" / service / "channels.json"

    def workload_api_socket(self, service: str) -> Path:
        """The SPIFFE Workload API, as one service sees it."""
        return self.run_directory / "workload" / service / "api.sock"
