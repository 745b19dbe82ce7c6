"""The gateway as anybody outside meets it: HTTPS, one request a connection."""

import secrets
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from watertight.attack import probe
from watertight.attack.arena import Arena
from watertight.attack.http import exchange, request_bytes
from watertight.attack.patience import patiently
from watertight.attack.probe import Observation, Outcome, not_run
from watertight.attack.tls import Hello, TLSWire, handshake
from watertight.attack.wire import Closed, SocketWire, dial_tcp
from watertight.dataplane.attacks.replies import AT_THE_EDGE, Nothing, Seen, attacked, used
from watertight.dataplane.attacks.requests import AGENT, TIMEOUT_SECONDS
from watertight.dataplane.attacks.ways import fill, may_go_on
from watertight.model.system import Gateway, Requirement, Route

CHANNEL = "outside -> gateway"
MODERN = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)
EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "127.0.0.1"}  # noqa: S104 - mapped, never bound


@dataclass(frozen=True, slots=True)
class Edge:
    """One request to the gateway. ``source``: the local address that it comes from."""

    gateway: Gateway
    method: str
    path: str
    host: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    source: str | None = field(default=None)

    def bearing(self, token: str) -> "Edge":
        """The same request with a bearer token (RFC 6750 section 2.1)."""
        return self.saying("authorization", f"Bearer {token}")

    def saying(self, name: str, value: str) -> "Edge":
        """The same request with one more header."""
        return replace(self, headers=(*self.headers, (name, value)))


def to_route(gateway: Gateway, route: Route, *, method: str = "") -> Edge:
    """A request that a route is for."""
    chosen = method or next((m for m in route.methods if m == "GET"), route.methods[0])
    body = b"{}" if chosen in {"POST", "PUT", "PATCH"} else b""
    return Edge(gateway, chosen, fill(route.path), body=body)


def handiest(routes: Iterable[Route]) -> list[Route]:
    """Those to try attacks at first: whose answers seem to end, and that take no token."""
    return sorted(routes, key=lambda r: (may_go_on(r.path), r.require is not None))


def host_of(gateway: Gateway) -> str:
    """Where on this host the gateway is met."""
    return EVERYWHERE.get(gateway.address, gateway.address)


def fresh_source(gateway: Gateway) -> str | None:
    """A loopback address that nobody has used, so that no probe meets another one's rate limit."""
    if not host_of(gateway).startswith("127."):
        return None
    # Below 127.64.0.0/10, where callees are found on a shared network.
    return f"127.{1 + secrets.randbelow(60)}.{secrets.randbelow(256)}.{1 + secrets.randbelow(254)}"


async def dial(gateway: Gateway, source: str | None = None) -> SocketWire:
    """A TCP connection to the gateway. Raises ``Absent``."""
    return await dial_tcp(host_of(gateway), gateway.port, source=source or fresh_source(gateway))


async def dial_tls(
    gateway: Gateway, hello: Hello | None = None, source: str | None = None
) -> TLSWire:
    """An HTTPS connection to the gateway. Raises ``Absent``, ``Alert``, ``Closed``."""
    wire = await dial(gateway, source)
    return await handshake(wire, hello or usual(gateway), timeout_seconds=TIMEOUT_SECONDS)


def usual(gateway: Gateway) -> Hello:
    """What a client of today offers."""
    return Hello(versions=MODERN, alpn=("http/1.1",), server_name=gateway.hostname)


def fields(edge: Edge) -> list[tuple[str, str]]:
    """The header fields of the request, but for its host."""
    kind = [("content-type", "application/json")] if edge.body else []
    return [("user-agent", AGENT), *edge.headers, *kind]


def raw_request(edge: Edge) -> bytes:
    """The request as bytes, exactly as given; the last one of its connection."""
    host = ("host", edge.host or edge.gateway.hostname)
    every = [host, *fields(edge), ("connection", "close")]
    return request_bytes(edge.method, edge.path, every, edge.body)


async def ask(edge: Edge) -> Seen:
    """One request on a connection of its own. Raises ``Absent``."""
    try:
        async with patiently(2 * TIMEOUT_SECONDS):
            wire = await dial_tls(edge.gateway, source=edge.source)
            try:
                got = await exchange(
                    wire, raw_request(edge), [edge.method], timeout_seconds=TIMEOUT_SECONDS
                )
            finally:
                await wire.close()
    except Closed as end:
        return Nothing(str(end), closed=True)
    except TimeoutError:
        return Nothing("no answer", closed=False)
    return got.answers[0] if got.answers else Nothing(got.detail, closed=got.closed)


async def right_token(
    arena: Arena, route: Route, *, header: Mapping[str, Any] | None = None, **claims: Any
) -> str | None:
    """A token that opens the route, but for header and claims given; None without a key."""
    if route.require is None:
        return None
    subject = f"watertight-verify-{secrets.token_hex(8)}"
    given = {
        "sub": subject,
        "scope": " ".join(route.require.scopes),
        **demanded_claims(route.require),
        **claims,
    }
    return await arena.token(route.require.issuer, header=header, **given)


def demanded_claims(require: Requirement) -> dict[str, Any]:
    """The claims that a route demands, of a choice the first, as they stand in a token."""
    claims: dict[str, Any] = {}
    for claim in (*require.claims, *(require.any_claims[0] if require.any_claims else ())):
        *outer, last = claim.path
        place = claims
        for name in outer:
            place = place.setdefault(name, {})
        place.setdefault(last, []).append(claim.value)
    return claims


def no_key(route: Route) -> Observation:
    """Why a token probe could not be run."""
    return probe.no_key(route.require.issuer if route.require else "?")


async def permitted(arena: Arena, edge: Edge, route: Route) -> Edge | None:
    """The request with all that the route requires; None without the issuer's key."""
    if route.require is None:
        return edge
    token = await right_token(arena, route)
    return edge.bearing(token) if token else None


async def judged(arena: Arena, route: Route | None, seen: Seen) -> Observation:
    """What an attack came to; a mere close counts only if a right request is answered."""
    observation = attacked(seen, AT_THE_EDGE)
    if observation.outcome is not Outcome.REFUSED or not isinstance(seen, Nothing):
        return observation
    if seen.detail.startswith("alert ") or route is None or arena.system.gateway is None:
        return observation
    control = await permitted(arena, to_route(arena.system.gateway, route), route)
    if control is None:
        return no_key(route)
    if used(await ask(control), AT_THE_EDGE).outcome is Outcome.SERVED:
        return observation
    return not_run(f"{observation.detail}; but a right request is turned away too")
