"""The two who meet at one app: who attacks, and whose requests must stay their own."""

import secrets
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace

from watertight.attack.arena import Arena
from watertight.attack.inside import dial_inside
from watertight.attack.talk import Talk
from watertight.attack.wire import Closed, Wire, dial_unix
from watertight.dataplane.attacks import edge
from watertight.dataplane.attacks.control import permitted
from watertight.dataplane.attacks.desync.shapes import Base
from watertight.dataplane.attacks.requests import (
    AGENT,
    TIMEOUT_SECONDS,
    Request,
    genuine,
    past_tls,
)
from watertight.dataplane.attacks.ways import SEGMENT, Way, fill, ways
from watertight.model.system import Gateway, Listen, Protocol, Route, System

MARK = "probe-mark"
WITH_BODY = frozenset({"POST", "PUT", "PATCH"})


@dataclass(frozen=True, slots=True)
class Side:
    """One identity at work: what it may ask, and how it comes to the app."""

    base: Base
    dial: Callable[[], Awaitable[Wire]]
    dial_framed: Callable[[], Awaitable[Wire]]
    """For HTTP/2."""

    def plain(self) -> bytes:
        """The granted request, with nothing wrong."""
        if self.base.method not in WITH_BODY:
            return self.base.head()
        return self.base.head(b"content-type: application/json\r\ncontent-length: 2\r\n") + b"{}"

    def saying(self, *lines: tuple[str, str]) -> "Side":
        """The same, with these header lines after its own."""
        return replace(self, base=replace(self.base, lines=(*self.base.lines, *lines)))

    def apart(self) -> "Side":
        """The same at a path of its own, where it may choose: a store keeps what it was sent."""
        own = f"{SEGMENT}-{secrets.token_hex(4)}"
        return replace(self, base=replace(self.base, target=self.base.target.replace(SEGMENT, own)))

    async def talk(self) -> Talk:
        """A connection of its own. Raises ``Absent``, ``Closed``."""
        return Talk(await self.dial())


class NoKey(Exception):
    """No token can be made for a route that requires one; ``issuer`` lent no key."""


@dataclass(frozen=True, slots=True)
class Caller:
    """A service with a channel to the app, attacking (or working) from inside its sandbox."""

    way: Way
    request: Request

    @property
    def name(self) -> str:
        """As reports call it."""
        return self.way.caller

    async def side(self, arena: Arena, mark: str) -> Side:
        """Ready to ask. Raises what a lost foothold raises."""
        inside = await arena.inside(self.way.caller)
        host = arena.address(self.way.caller, self.way.callee)
        lines = (("host", self.way.authority), ("user-agent", AGENT), (MARK, mark))

        async def dial() -> Wire:
            port = self.way.listens.port
            return await dial_inside(inside, host, port, timeout_seconds=TIMEOUT_SECONDS)

        # No TLS to choose a protocol in: whoever knows speaks HTTP/2 at once (RFC 9113, 3.3).
        return Side(Base(self.request.method, self.request.path, lines), dial, dial)


@dataclass(frozen=True, slots=True)
class Thief:
    """Who stole a caller's SVID, at the callee's door: past the caller's proxy."""

    way: Way
    request: Request

    @property
    def name(self) -> str:
        """As reports call it."""
        return f"a thief of {self.way.caller}'s SVID"

    async def side(self, arena: Arena, mark: str) -> Side:
        """Ready to ask."""
        way = self.way
        door = arena.door(way.callee, way.caller)
        hello = await genuine(arena, way)
        lines = (("host", way.authority), ("user-agent", AGENT), (MARK, mark))

        async def dial() -> Wire:
            return await past_tls(await dial_unix(door), hello, Protocol.HTTP)

        async def dial_framed() -> Wire:
            secure = await past_tls(await dial_unix(door), hello, Protocol.GRPC)
            if secure.tls.selected_alpn_protocol() != "h2":
                await secure.close()
                raise Closed("no HTTP/2 is spoken at this door")
            return secure

        return Side(Base(self.request.method, self.request.path, lines), dial, dial_framed)


@dataclass(frozen=True, slots=True)
class Outsider:
    """A client of the gateway: anybody, or with a token of its own where the route wants one."""

    gateway: Gateway
    route: Route

    @property
    def name(self) -> str:
        """As reports call it."""
        return f"a user of {self.route.path}" if self.route.require else "anybody outside"

    async def side(self, arena: Arena, mark: str) -> Side:
        """Ready to ask, from an address (and with a subject) of its own. Raises :class:`NoKey`."""
        ready = await edge.permitted(arena, edge.to_route(self.gateway, self.route), self.route)
        if ready is None:
            raise NoKey(self.route.require.issuer if self.route.require else "")
        source = edge.fresh_source(self.gateway)
        lines = (
            ("host", self.gateway.hostname),
            ("user-agent", AGENT),
            *ready.headers,
            (MARK, mark),
        )

        async def dial() -> Wire:
            return await edge.dial_tls(self.gateway, source=source)

        async def dial_framed() -> Wire:
            hello = replace(edge.usual(self.gateway), alpn=("h2",))
            return await edge.dial_tls(self.gateway, hello, source=source)

        return Side(Base(ready.method, ready.path, lines), dial, dial_framed)


Person = Caller | Thief | Outsider


def victim_of(system: System, attacked: Way) -> Person:
    """Who else asks this app; where nobody does, the caller itself, on another connection."""
    for way in ways(system):
        if way.callee == attacked.callee and way.from_service and way.caller != attacked.caller:
            return Caller(way, requests_of(way)[0])
    outsider = outsider_at(system, attacked.callee)
    return outsider or Caller(attacked, requests_of(attacked)[0])


def outsider_at(system: System, name: str) -> Outsider | None:
    """Who comes to a service through the gateway, without a token if any route leaves it open."""
    routes = system.routes_to(name)
    if not routes or system.gateway is None:
        return None
    return Outsider(system.gateway, edge.handiest(routes)[0])


def outsiders(system: System) -> Iterator[tuple[str, Listen, Outsider]]:
    """One for each service that speaks HTTP/1 behind the gateway, with where it listens."""
    for name, service in system.services.items():
        outsider, listens = outsider_at(system, name), service.listens
        if outsider and listens and listens.protocol is Protocol.HTTP:
            yield name, listens, outsider


def requests_of(way: Way) -> list[Request]:
    """One granted request for each method, the harmless one first."""
    first = permitted(way)
    if not way.grants:
        return [first, Request("POST", "/")]
    by_method = {first.method: first}
    for grant in way.http_grants:
        by_method.setdefault(grant.method, Request(grant.method, fill(grant.path)))
    return list(by_method.values())
