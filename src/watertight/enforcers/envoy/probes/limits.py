"""Rate limits at the gateway: a flood from one client must be answered 429 before it is through."""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import replace

from watertight.enforcers.attack.http import exchange
from watertight.enforcers.attack.wire import Closed
from watertight.enforcers.contract import Arena, Observation, Probe, not_run, refused, served
from watertight.enforcers.envoy.probes import edge
from watertight.enforcers.envoy.probes.edge import CHANNEL, Edge, fresh_source, to_route
from watertight.enforcers.envoy.probes.make import attack
from watertight.model.system import Gateway, Limit, Route, System

CONNECTIONS = 8
BURST_SECONDS = 8.0
MOST_REQUESTS = 1_500
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
    count = 2 * limit.requests + CONNECTIONS
    if count > MOST_REQUESTS:
        return not_run(f"a flood of {count} requests is more than a proof sends")
    request = await edge.permitted(arena, to_route(gateway, route), route)
    if request is None:
        return edge.no_key(route)
    request = replace(request, source=fresh_source(gateway))
    started = time.monotonic()
    statuses = await _send(request, count)
    seconds = time.monotonic() - started
    if limited := statuses.count(429):
        return refused(f"{limited} of {len(statuses)} answered 429")
    if len(statuses) <= limit.requests * (1 + seconds / limit.window_seconds):
        return not_run(f"only {len(statuses)} answers in {seconds:.1f} s: slower than the limit")
    return served(f"all {len(statuses)} let through in {seconds:.1f} s")


async def _send(request: Edge, count: int) -> list[int]:
    """The statuses of ``count`` requests, pipelined over a few connections at once."""
    share = -(-count // CONNECTIONS)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_burst(request, share)) for _ in range(CONNECTIONS)]
    return [status for task in tasks for status in task.result()]


async def _burst(request: Edge, count: int) -> list[int]:
    try:
        wire = await edge.dial_tls(request.gateway, source=request.source)
    except Closed:
        return []
    data = edge.raw_request(request, close=False) * count
    try:
        got = await exchange(wire, data, [request.method] * count, timeout_seconds=BURST_SECONDS)
    finally:
        await wire.close()
    return [answer.status for answer in got.answers]
