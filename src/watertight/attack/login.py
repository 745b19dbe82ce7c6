"""Coming in at a server that takes TLS end to end and knows its clients by their SVIDs.

An enforcer adds how its protocol is spoken: a :class:`Dialect`.
"""

import asyncio
import ssl
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from watertight.attack.arena import Arena, Forgery
from watertight.attack.places import idle
from watertight.attack.probe import Observation, not_run, refused, served
from watertight.attack.tls import Alert, Hello, TLSWire, handshake
from watertight.attack.wire import Absent, Closed, Wire, dial_unix
from watertight.model.system import Resource, System

TIMEOUT_SECONDS = 5.0
PATIENCE_SECONDS = 10.0
"""Probes run side by side, and a service may have few sessions at once."""
POLL_SECONDS = 0.05


class LoginRefused(Closed):
    """The server said no in the words of its own protocol: beyond doubt, as an alert is."""


@dataclass(frozen=True, slots=True)
class Login:
    """Who wants to come in where: ``service`` is the identity that is claimed."""

    system: System
    resource: Resource
    service: str

    @property
    def channel(self) -> str:
        """How the pair is called in reports."""
        return f"{self.service} -> {self.resource.name}"


class Busy(Absent):
    """The server has no place for anybody just now, whoever asks."""


class Dialect(Protocol):
    """One protocol, as an attacker speaks it. Written without any client library's caution."""

    enforcer: str
    """The ``enforcer`` of its probes."""
    alpn: tuple[str, ...]
    lowest_tls: ssl.TLSVersion
    """The lowest version that the server may accept; below it, every attempt is an attack."""
    tells_who: bool
    """Whether :meth:`login` sees whom the server takes us for. If not, somebody else who has a
    channel of his own comes in as himself, and that is no attack: what he may do there is."""

    async def prelude(self, wire: Wire, *, secure: bool) -> None:
        """What comes before the TLS handshake, or before a login in the clear.

        Raises :class:`LoginRefused` if the server refuses there, ``Closed`` or ``TimeoutError``.
        """
        ...

    async def login(self, wire: Wire, login: Login) -> None:
        """Logs in, and has the server do something that only a client who is in may do.

        Returns once the server has done it. Raises :class:`LoginRefused`, ``Closed`` (also a late
        TLS alert) or ``TimeoutError``.
        """
        ...


async def secured(
    door: Path, dialect: Dialect, hello: Hello, *, earlier: TLSWire | None = None
) -> TLSWire:
    """TLS through a door, before any login. Raises as :func:`enter`.

    ``earlier``: a finished connection whose session is offered again. The caller closes what it
    gets.
    """
    wire = await dial_unix(door)
    try:
        await dialect.prelude(wire, secure=True)
        return await handshake(wire, hello, timeout_seconds=TIMEOUT_SECONDS, earlier=earlier)
    except BaseException:
        await wire.close()
        raise


async def enter(
    arena: Arena,
    dialect: Dialect,
    login: Login,
    hello: Hello,
    *,
    door: str | None = None,
    earlier: TLSWire | None = None,
) -> TLSWire:
    """Comes in over TLS, through the door that is ``door``'s (``login.service``'s by default).

    ``earlier`` as for :func:`secured`; a server that is busy is asked again. The caller closes what
    it gets. Raises ``Absent``, ``LoginRefused``, ``Alert``, ``Closed`` or ``TimeoutError``.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return await enter_at_once(arena, dialect, login, hello, door=door, earlier=earlier)
        except Busy:
            if time.monotonic() > deadline:
                raise
        with idle():
            await asyncio.sleep(POLL_SECONDS)


async def enter_at_once(
    arena: Arena,
    dialect: Dialect,
    login: Login,
    hello: Hello,
    *,
    door: str | None = None,
    earlier: TLSWire | None = None,
) -> TLSWire:
    """As :func:`enter`, but a server that is busy is not asked again: raises :class:`Busy`."""
    way = arena.door(login.resource.name, door or login.service)
    wire = await secured(way, dialect, hello, earlier=earlier)
    try:
        await dialect.login(wire, login)
    except BaseException:
        await wire.close()
        raise
    return wire


def right(login: Login) -> Forgery:
    """The forgery with nothing wrong with it: what the service's own SVID says."""
    return Forgery(
        uri_sans=(login.system.spiffe_id(login.service),),
        dns_sans=(login.service,),
        common_name=login.service,
        organization=login.system.trust_domain,
    )


async def genuine(arena: Arena, dialect: Dialect, service: str) -> Hello:
    """What ``service`` itself would offer."""
    return Hello(credential=await arena.svid(service), alpn=dialect.alpn)


async def as_itself(arena: Arena, dialect: Dialect, login: Login) -> TLSWire:
    """A session of the right caller, for attacks on what it may do. Raises as :func:`enter`."""
    return await enter(arena, dialect, login, await genuine(arena, dialect, login.service))


async def tried_to_enter(
    arena: Arena,
    dialect: Dialect,
    login: Login,
    hello: Hello,
    *,
    door: str | None = None,
    earlier: TLSWire | None = None,
) -> Observation:
    """Whether the server lets in who says this hello, with a control where there is doubt.

    ``door`` and ``earlier`` as for :func:`enter`.
    """
    try:
        secure = await enter(arena, dialect, login, hello, door=door, earlier=earlier)
    except (Alert, LoginRefused) as refusal:
        return refused(str(refusal))
    except (Closed, TimeoutError) as end:
        what = str(end) or "no answer"
        return await controlled(arena, dialect, replace(login, service=door or login.service), what)
    await secure.close()
    if earlier is None:
        return served(f"logged in as {login.service}")
    reused = secure.tls.session_reused
    return served("the session was resumed" if reused else "the SVID itself was taken")


async def controlled(arena: Arena, dialect: Dialect, login: Login, seen: str) -> Observation:
    """A refusal without words counts only while the right caller is served at the same door."""
    try:
        await (await as_itself(arena, dialect, login)).close()
    except (Closed, TimeoutError) as end:
        said = str(end) or "no answer"
        return not_run(f"{seen}; but the right caller is turned away too: {said}")
    return refused(seen)
