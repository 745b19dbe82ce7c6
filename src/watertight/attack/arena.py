"""The running system as an attacker can touch it, and what he may bring along."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from watertight.attack.witness import Witness
from watertight.model.placement import Placement
from watertight.model.system import System

if TYPE_CHECKING:
    from cryptography import x509


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
    placement: Placement
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

    def witness(self, service: str, port: int) -> AbstractAsyncContextManager[Witness | None]:
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
