"""Rate limits at the gateway: a flood from one client must be answered 429 before it is through."""

import asyncio
import math
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace

from watertight.enforcers.attack.http2 import HTTP2, Burst, connect
from watertight.enforcers.contract import Arena, Observation, Probe, not_run, refused, served
from watertight.enforcers.envoy.probes import edge
from watertight.enforcers.envoy.probes.edge import CHANNEL, Edge, fresh_source, to_route
from watertight.enforcers.envoy.probes.make import attack
from watertight.model.system import Gateway, Limit, Route, System

STREAMS = 100
"""At once on one connection: what every server should take (RFC 9113 section 6.5.2)."""
SENDING_SECONDS = 1.0
"""What we may take to send them: as much as refills in this is sent on top of the limit."""
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


async def _flood(arena: Arena, gateway: Gateway, route: Route, limit: Limit) -> Observation:
    """All requests at once: what outruns the limit must not depend on how fast the app answers."""
    refilled = math.ceil(limit.requests * SENDING_SECONDS / limit.window_seconds)
    count = limit.requests + refilled + MARGIN
    if count > MOST_REQUESTS:
        return not_run(f"a flood of {count} requests is more than a proof sends")
    request = await edge.permitted(arena, to_route(gateway, route), route)
    if request is None:
        return edge.no_key(route)
    bursts = await _send(replace(request, source=fresh_source(gateway)), count)
    statuses = [status for burst in bursts for status in burst.statuses]
    seconds = max(burst.read_seconds for burst in bursts)
    if limited := statuses.count(429):
        return refused(f"{limited} of {len(statuses)} answered 429")
    if len(statuses) <= limit.requests * (1 + seconds / limit.window_seconds):
        return not_run(f"only {len(statuses)} of {count} sent in {seconds:.1f} s were answered")
    return served(f"all {len(statuses)} let through in {seconds:.1f} s")


async def _send(request: Edge, count: int) -> Sequence[Burst]:
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
