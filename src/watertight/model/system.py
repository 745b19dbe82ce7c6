"""The nouns of a declaration, resolved: what every other room of the house reads.

A :class:`System` is what one ``watertight.yaml`` declares, after loading has checked it. It is
immutable, knows no machine, and holds for each thing the position where it was declared, so that
any later refusal (a lint finding, an Envoy NACK, a broken probe) can name the line.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, TypeAlias

GATEWAY = "gateway"
"""The reserved service name under which the gateway has its identity."""
OUTSIDE = "outside"
"""Who comes in through the gateway, and has no identity of ours: reserved too."""


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """Where something was declared: 1-based line and column."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


NOWHERE = Position("<memory>", 1, 1)
"""The position of what a program built rather than read."""


class Protocol(StrEnum):
    """What a service speaks on the port that it listens on. Declared, never sniffed."""

    HTTP = "http"
    GRPC = "grpc"
    TCP = "tcp"


@dataclass(frozen=True, slots=True)
class Listen:
    """The one port of the service itself; the app binds 127.0.0.1 only."""

    protocol: Protocol
    port: int


@dataclass(frozen=True, slots=True)
class Limits:
    """What the program of one workload may use of its host."""

    memory_bytes: int
    """All its processes together, its temporary files included."""
    processes: int
    """Threads count too."""
    temp_bytes: int
    """In each of the directories for temporary files."""
    files: int
    """Open files of each process."""


SERVICE_LIMITS = Limits(1 << 30, 1024, 1 << 28, 16_384)
RESOURCE_LIMITS = Limits(1 << 31, 1024, 1 << 28, 65_536)
"""Where nothing is declared. A server holds data and connections of many."""


@dataclass(frozen=True, slots=True)
class Service:
    """A workload of the user's own; its identity is ``spiffe://<trust domain>/<name>``."""

    name: str
    run: tuple[str, ...] = ()
    image: str | None = None
    listens: Listen | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    directory: str = "."
    """Where ``run`` starts, relative to the declaration."""
    ready: str | None = None
    """An HTTP path that answers 2xx once the app is ready; None: the port accepts."""
    contract: str | None = None
    limits: Limits = SERVICE_LIMITS
    private_ports: tuple[int, ...] = ()
    """Where the app listens for itself alone: a debugger, workers of its own."""
    at: Position = NOWHERE


@dataclass(frozen=True, slots=True)
class Resource:
    """What services use and did not write: a database, a broker, a store."""

    name: str
    kind: str
    port: int = 0
    """Where its server listens for TLS: in a network of its own, or at ``address``. 0: unknown."""
    address: str | None = None
    """The host of a server that we do not manage (``external``); None: we run it."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Keys of its own kind: checked by the enforcer of that kind."""
    at: Position = NOWHERE
    limits: Limits = RESOURCE_LIMITS

    @property
    def external(self) -> bool:
        """Whether somebody else runs it."""
        return self.address is not None


@dataclass(frozen=True, slots=True, order=True)
class HTTPGrant:
    """One method on one path template (``GET /orders/*``).

    ``*`` and ``{name}`` match exactly one segment, a final ``**`` one or more
    (:mod:`watertight.model.templates`).
    """

    method: str
    path: str

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


@dataclass(frozen=True, slots=True, order=True)
class RPCGrant:
    """One gRPC method (``shop.Catalogue/Get``), or all of one service (``shop.Catalogue/*``)."""

    service: str
    method: str

    def __str__(self) -> str:
        return f"{self.service}/{self.method}"


Grant: TypeAlias = HTTPGrant | RPCGrant


@dataclass(frozen=True, slots=True)
class Channel:
    """A declared edge from a service to a service or resource, with the grants it carries.

    ``grants`` empty means identity only: who may talk, not what may be said.
    """

    source: str
    target: str
    grants: tuple[Grant, ...] = ()
    timeout_seconds: float | None = None
    retries: int = 0
    originate: bool = False
    """The caller's proxy speaks mTLS to the resource for a client that cannot."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Grants of a resource's own kind (``tables``, ``publish`` …): read by its enforcer."""
    at: Position = NOWHERE

    @property
    def name(self) -> str:
        """How the channel is called in every report: ``storefront -> orders``."""
        return f"{self.source} -> {self.target}"


@dataclass(frozen=True, slots=True)
class Issuer:
    """Whose JWTs the gateway accepts (RFC 7519 iss and aud, RFC 7517 key set)."""

    name: str
    issuer: str
    audiences: tuple[str, ...]
    jwks: str
    """A file relative to the declaration, or an https URL."""
    at: Position = NOWHERE
    jwks_at: Position = field(default=NOWHERE, compare=False)
    """Where ``jwks`` stands."""


@dataclass(frozen=True, slots=True, eq=False)
class Claim:
    """A claim that a token must have: equal to ``value``, or a list that holds it.

    ``path`` leads through the token's objects by their names, which are never taken apart:
    ``("realm_access", "roles")``, ``("https://example.com/roles",)``.
    """

    path: tuple[str, ...]
    value: str | int | bool

    def __eq__(self, other: object) -> bool:
        """Python takes ``True`` for 1; a token's ``true`` is no number."""
        return isinstance(other, Claim) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[tuple[str, ...], type, str | int | bool]:
        return self.path, type(self.value), self.value


@dataclass(frozen=True, slots=True)
class Requirement:
    """What a caller's token must show before a route is open to it."""

    issuer: str
    scopes: tuple[str, ...] = ()
    claims: tuple[Claim, ...] = ()
    """All of them."""
    any_claims: tuple[tuple[Claim, ...], ...] = ()
    """All of at least one of these groups; no groups demand nothing."""


class Per(StrEnum):
    """Whose bucket a request is counted in."""

    SUBJECT = "subject"
    ADDRESS = "address"


@dataclass(frozen=True, slots=True)
class Limit:
    """A token bucket: ``requests`` per ``window_seconds``, one bucket per ``per``."""

    per: Per
    requests: int
    window_seconds: int


PAGES_SEND = ("authorization", "content-type")
PAGES_READ = ("retry-after", "www-authenticate")
PAGES_REMEMBER_SECONDS = 600.0
"""Where nothing is declared: what the gateway itself asks for and says."""


@dataclass(frozen=True, slots=True)
class Cors:
    """Which pages of other origins may use a route in a browser (Fetch standard, "HTTP CORS")."""

    origins: tuple[str, ...]
    """As browsers write them (RFC 6454 section 6.2); ``*``: every page."""
    headers: tuple[str, ...] = PAGES_SEND
    """What such a page may send, beside what every page may."""
    expose: tuple[str, ...] = PAGES_READ
    """What it may read of an answer's headers, beside what every page may."""
    credentials: bool = False
    """Whether cookies go along."""
    max_age_seconds: float = PAGES_REMEMBER_SECONDS
    """How long a browser need not ask again."""


@dataclass(frozen=True, slots=True)
class Route:
    """One way in at the gateway. ``path`` and ``rewrite`` are path templates."""

    path: str
    target: str
    methods: tuple[str, ...] = ("GET",)
    rewrite: str | None = None
    require: Requirement | None = None
    """None: open to anyone (declared as ``require: anyone``, never by omission)."""
    limit: Limit | None = None
    timeout_seconds: float | None = None
    """From the end of a request to the end of its answer; None: as long as it takes."""
    keeps_host: bool = True
    """The service sees the host that the client asked for; else its own name and port."""
    escaped_slashes: bool = False
    """``%2F`` may stand in what a wildcard matches; elsewhere it is refused."""
    double_slashes: bool = False
    """``//`` may stand in what ``**`` matches, and is left as it is."""
    cors: Cors | None = None
    """None: what the service says of CORS stands, and the gateway says nothing."""
    at: Position = NOWHERE

    @property
    def target_path(self) -> str:
        """The path template that the target service sees."""
        return self.rewrite or self.path


@dataclass(frozen=True, slots=True)
class Gateway:
    """Where the outside comes in, over HTTPS only."""

    hostname: str
    routes: tuple[Route, ...]
    address: str = "127.0.0.1"
    port: int = 8443
    certificate: str | None = None
    """A PEM chain relative to the declaration; None: our own authority issues it."""
    private_key: str | None = None
    issuers: Mapping[str, Issuer] = field(default_factory=dict)
    max_request_bytes: int = 1_048_576
    max_header_bytes: int = 32_768
    """Of all headers of one request together."""
    max_headers: int = 100
    at: Position = NOWHERE
    withheld: Mapping[int, tuple[Route, ...]] = field(default_factory=dict)
    """Routes of revoked identities, by how many of ``routes`` stand before them. They answer 404:
    their requests are not for a route behind them, which may be open to anyone."""

    @property
    def endpoint(self) -> str:
        """Address and port, as ``listen`` says them: IPv6 in brackets (RFC 3986 section 3.2.2)."""
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{host}:{self.port}"

    def in_order(self) -> Iterator[tuple[Route, bool]]:
        """All that are declared, as the first that fits is taken, and whether each is in force."""
        for number, route in enumerate((*self.routes, None)):
            yield from ((withheld, False) for withheld in self.withheld.get(number, ()))
            if route is not None:
                yield route, True

    def without_identities(self, revoked: frozenset[str]) -> "Gateway":
        """With the routes withheld that lead to these, or all if the gateway is one of them."""
        routes, withheld = list[Route](), dict[int, tuple[Route, ...]]()
        for route, in_force in self.in_order():
            if in_force and not {route.target, GATEWAY} & revoked:
                routes.append(route)
            else:
                withheld[len(routes)] = (*withheld.get(len(routes), ()), route)
        return replace(self, routes=tuple(routes), withheld=withheld)


@dataclass(frozen=True, slots=True)
class System:
    """Everything that one ``watertight.yaml`` declares."""

    trust_domain: str
    services: Mapping[str, Service] = field(default_factory=dict)
    resources: Mapping[str, Resource] = field(default_factory=dict)
    channels: tuple[Channel, ...] = ()
    gateway: Gateway | None = None
    file: str = NOWHERE.file
    withheld: tuple[Channel, ...] = ()
    """Channels of revoked identities. They grant nothing; what a server keeps for them stays."""
    _outgoing: Mapping[str, Mapping[str, Channel]] = field(init=False, repr=False, compare=False)
    """Source → target → channel: without it, compiling n services would take n² time."""
    _incoming: Mapping[str, tuple[Channel, ...]] = field(init=False, repr=False, compare=False)
    _routes: Mapping[str, tuple[Route, ...]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        outgoing: dict[str, dict[str, Channel]] = {}
        incoming: dict[str, list[Channel]] = {}
        for channel in self.channels:
            outgoing.setdefault(channel.source, {}).setdefault(channel.target, channel)
            incoming.setdefault(channel.target, []).append(channel)
        routes: dict[str, list[Route]] = {}
        for route in self.gateway.routes if self.gateway else ():
            routes.setdefault(route.target, []).append(route)
        object.__setattr__(self, "_outgoing", outgoing)
        object.__setattr__(self, "_incoming", {k: tuple(v) for k, v in incoming.items()})
        object.__setattr__(self, "_routes", {k: tuple(v) for k, v in routes.items()})

    def spiffe_id(self, service: str) -> str:
        """The SPIFFE ID of a service (or of the gateway) as a URI."""
        return f"spiffe://{self.trust_domain}/{service}"

    def channel(self, source: str, target: str) -> Channel | None:
        """The channel between two names, if it is declared."""
        return self._outgoing.get(source, {}).get(target)

    def outgoing(self, service: str) -> Iterator[Channel]:
        """The channels that ``service`` may open."""
        return iter(self._outgoing.get(service, {}).values())

    def incoming(self, name: str) -> Iterator[Channel]:
        """The channels that may be opened to ``name``."""
        return iter(self._incoming.get(name, ()))

    def declared_to(self, name: str) -> Iterator[Channel]:
        """The channels to ``name`` that are declared, withheld or not."""
        return (c for c in (*self.channels, *self.withheld) if c.target == name)

    def routes_to(self, service: str) -> tuple[Route, ...]:
        """The gateway's routes that lead to ``service``."""
        return self._routes.get(service, ())

    def workloads(self) -> tuple[str, ...]:
        """Every name that has an SVID and a proxy: services, resources, the gateway if declared."""
        return (*self.services, *self.resources, *((GATEWAY,) if self.gateway else ()))

    def callers(self) -> tuple[str, ...]:
        """The workloads that open connections: the services, and the gateway if declared."""
        return (*self.services, *((GATEWAY,) if self.gateway else ()))

    def without_identities(self, revoked: frozenset[str]) -> "System":
        """The system that stays in force once these identities are distrusted.

        The services stay declared, so that their processes and their refusals stay visible; no
        channel from or to them does: those are ``withheld``.
        """
        gateway = self.gateway.without_identities(revoked) if self.gateway else None
        channels = tuple(
            c for c in self.channels if c.source not in revoked and c.target not in revoked
        )
        withheld = tuple(c for c in self.channels if {c.source, c.target} & revoked)
        return replace(self, channels=channels, gateway=gateway, withheld=withheld)
