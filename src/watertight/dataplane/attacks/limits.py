"""Rate limits at the gateway: a flood from one client must be answered 429 before it is through."""

import asyncio
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace

from watertight.attack.arena import Arena
from watertight.attack.http2 import HTTP2, Burst, connect
from watertight.attack.probe import Observation, Probe, not_run, refused, served
from watertight.dataplane.attacks import edge
from watertight.dataplane.attacks.edge import CHANNEL, Edge, fresh_source, to_route
from watertight.dataplane.attacks.make import attack
from watertight.model.system import Gateway, Limit, Route, System

STREAMS = 100
"""At once on one connection: what every server should take (RFC 9113 section 6.5.2)."""
SENDING_SECONDS = 1.0
"""What we take at least to send them: what refills in this is sent on top of the limit."""
MARGIN = 8
BURST_SECONDS = 8.0
MOST_REQUESTS = 2_500
"""A bound for ourselves: what allows more cannot be shown to hold by a bounded flood."""


def probes(system: System) -> Iterator[Probe]:
    """For every route that has a limit."""
    gateway = system.gateway
    for route in gateway.routes if gateway else ():
        if route.limit is not None and gateway is not None:
            yield attack(
                "limit.flood",
                CHANNEL,
                f"more than {route.limit.requests} requests in {route.limit.window_seconds} s at "
                f"{route.path} from one {route.limit.per.value}",
                _flood,
                gateway,
                route,
                route.limit,
            )


@dataclass
class _Flood:
    """What one client has sent so far."""

    limit: Limit
    began: float
    sent: int = 0
    limited: int = 0
    passed: int = 0

    def allowed(self, more_seconds: float = 0.0) -> float:
        """So many pass in the time since, at most: what is in the bucket, and what refills."""
        seconds = time.monotonic() - self.began + more_seconds
        return self.limit.requests * (1 + seconds / self.limit.window_seconds)

    def missing(self, seconds: float) -> int:
        """What outruns the limit if it takes so long to send."""
        return math.ceil(self.allowed(seconds)) - self.passed + MARGIN

    def take(self, burst: Burst) -> None:
        limited = burst.statuses.count(429)
        self.limited += limited
        self.passed += burst.count - limited - burst.reset if burst.read else 0

    def __str__(self) -> str:
        return f"{self.passed} of {self.sent} in {time.monotonic() - self.began:.1f} s"


async def _flood(arena: Arena, gateway: Gateway, route: Route, limit: Limit) -> Observation:
    """All requests at once: what outruns the limit must not depend on how fast the app answers,
    nor on how fast we send: where too much has refilled meanwhile, the rest is sent as well."""
    request = await edge.permitted(arena, to_route(gateway, route), route)
    if request is None:
        return edge.no_key(route)
    request = replace(request, source=fresh_source(gateway))
    flood = _Flood(limit, time.monotonic())
    seconds = SENDING_SECONDS
    while flood.sent + (count := flood.missing(seconds)) <= MOST_REQUESTS:
        started = time.monotonic()
        flood.sent += count
        for burst in await _send(request, count, flood):
            flood.take(burst)
        seconds = max(SENDING_SECONDS, 2 * (time.monotonic() - started))
        if flood.limited:
            return refused(f"{flood.limited} of {flood.sent} answered 429")
        if flood.passed > flood.allowed():
            return served(f"{flood} let through")
    if not flood.sent:
        return not_run(f"a flood of {count} requests is more than a proof sends")
    return not_run(f"{flood} let through: so slowly, the limit may refill as fast")


async def _send(request: Edge, count: int, flood: _Flood) -> Sequence[Burst]:
    """``count`` requests over as few connections as can carry them, all open before the first."""
    pseudo = [
        (":method", request.method),
        (":scheme", "https"),
        (":authority", request.gateway.hostname),
        (":path", request.path),
    ]
    headers = [*pseudo, *edge.fields(request)]
    shares = [min(STREAMS, count - sent) for sent in range(0, count, STREAMS)]
    async with AsyncExitStack() as stack:
        connections = [await _connection(request, stack) for _ in shares]
        if flood.sent == count:
            flood.began = time.monotonic()
        return await asyncio.gather(
            *(
                connection.burst(headers, request.body, share)
                for connection, share in zip(connections, shares, strict=True)
            )
        )


async def _connection(request: Edge, stack: AsyncExitStack) -> HTTP2:
    hello = replace(edge.usual(request.gateway), alpn=("h2",))
    wire = await edge.dial_tls(request.gateway, hello, source=request.source)
    connection = await connect(wire, timeout_seconds=BURST_SECONDS)
    stack.push_async_callback(connection.close)
    return connection
