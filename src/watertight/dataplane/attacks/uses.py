"""Every permitted use of every channel, tried for real: what was declared must work."""

from collections.abc import Iterator

from watertight.attack.arena import Arena
from watertight.attack.inside import dial_inside
from watertight.attack.places import idle
from watertight.attack.probe import Observation, Probe, refused, served
from watertight.attack.wire import Absent, Closed
from watertight.dataplane.attacks.arrival import permitted_at_door, permitted_inside
from watertight.dataplane.attacks.control import permitted
from watertight.dataplane.attacks.make import use
from watertight.dataplane.attacks.replies import used
from watertight.dataplane.attacks.requests import SETTLE_SECONDS, TIMEOUT_SECONDS, Request
from watertight.dataplane.attacks.ways import Way, fill, ways
from watertight.model.system import Protocol, System


def probes(system: System) -> Iterator[Probe]:
    """One use for each grant, from inside; one for each way, with the right SVID at the door."""
    for way in ways(system):
        door = use(
            "use.door",
            way.channel,
            f"{way.caller}'s own SVID at {way.callee}'s door for it",
            _door,
            way,
        )
        yield door if way.speaks_http else door.waiting()
        if not way.from_service:
            continue
        if way.listens.protocol is Protocol.TCP:
            yield use(
                "use.stream",
                way.channel,
                f"a TCP connection from inside {way.caller} to {way.authority}",
                _stream,
                way,
            ).waiting()
        elif not way.grants:
            yield _inside("use.identity", way, permitted(way), "any request (identity only)")
        for declared, grant in zip(way.grants, way.http_grants, strict=True):
            yield _inside("use.grant", way, Request(grant.method, fill(grant.path)), str(declared))


def _inside(identifier: str, way: Way, request: Request, what: str) -> Probe:
    async def run(arena: Arena) -> Observation:
        try:
            return used(await permitted_inside(arena, way, request))
        except Absent as gone:
            return refused(str(gone))

    attempt = f"{what} from inside {way.caller}, as {request.method} {request.path}"
    return use(identifier, way.channel, attempt, run)


async def _door(arena: Arena, way: Way) -> Observation:
    try:
        return used(await permitted_at_door(arena, way, permitted(way)))
    except Absent as gone:
        return refused(str(gone))


async def _stream(arena: Arena, way: Way) -> Observation:
    """Open, and not thrown out while every proxy on the way tries to reach the app."""
    inside = await arena.inside(way.caller)
    host = arena.address(way.caller, way.callee)
    try:
        wire = await dial_inside(inside, host, way.listens.port, timeout_seconds=TIMEOUT_SECONDS)
    except Absent as gone:
        return refused(str(gone))
    try:
        with idle():
            data = await wire.receive(SETTLE_SECONDS)
    except TimeoutError:
        return served("open")
    except Closed as end:
        return refused(str(end))
    finally:
        await wire.close()
    return served(f"sent {len(data)} bytes") if data else refused("closed at once")
