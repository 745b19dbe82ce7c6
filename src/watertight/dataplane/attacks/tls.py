"""TLS itself: what is let in without a certificate, in the clear, or with an old version.

Served means here: the door spoke with us. What RBAC would say behind it does not matter:
each layer must hold on its own.
"""

import ssl
from collections.abc import Iterator

from watertight.attack.arena import Arena
from watertight.attack.http import exchange, request_bytes
from watertight.attack.http2 import connect
from watertight.attack.probe import Observation, Probe, served
from watertight.attack.tls import Hello
from watertight.attack.wire import Closed, dial_unix
from watertight.dataplane.attacks.control import judged_at_door, permitted
from watertight.dataplane.attacks.make import attack
from watertight.dataplane.attacks.replies import Nothing
from watertight.dataplane.attacks.requests import TIMEOUT_SECONDS, let_in, past_tls
from watertight.dataplane.attacks.ways import Way, ways
from watertight.model.system import System

OLD_VERSIONS = {
    "tls.version-1.2": (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_2),
    "tls.version-1.1": (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1),
}


def probes(system: System) -> Iterator[Probe]:
    """For every door: plaintext, no certificate, TLS 1.2, TLS 1.1 and below."""
    for way in ways(system):
        clear = attack(
            "tls.plaintext",
            way.channel,
            f"HTTP/2, then HTTP/1.1, in the clear at {way.callee}'s door for {way.caller}",
            _plaintext,
            way,
        )
        yield clear if way.speaks_http else clear.waiting()
        yield attack(
            "tls.no-certificate",
            way.channel,
            "TLS 1.3 handshake without a client certificate",
            handshaken,
            way,
            Hello(),
        )
        for identifier, versions in OLD_VERSIONS.items():
            highest = versions[1].name.removeprefix("TLSv").replace("_", ".")
            yield attack(
                identifier,
                way.channel,
                f"TLS {highest} at most, with the right SVID",
                _old,
                way,
                versions,
            )


async def handshaken(arena: Arena, way: Way, hello: Hello) -> Observation:
    """Served if the door speaks with whoever says this hello."""
    wire = await dial_unix(arena.door(way.callee, way.caller))
    speaks = way.listens.protocol
    try:
        await let_in(await past_tls(wire, hello, speaks), speaks)
    except Closed as end:
        return await judged_at_door(arena, way, Nothing(str(end), closed=True))
    except TimeoutError:
        return await judged_at_door(arena, way, Nothing("no answer", closed=False))
    finally:
        await wire.close()
    return served("the door let us in")


async def _old(
    arena: Arena, way: Way, versions: tuple[ssl.TLSVersion, ssl.TLSVersion]
) -> Observation:
    hello = Hello(credential=await arena.svid(way.caller), versions=versions)
    return await handshaken(arena, way, hello)


async def _plaintext(arena: Arena, way: Way) -> Observation:
    door = arena.door(way.callee, way.caller)
    wire = await dial_unix(door)
    try:
        await connect(wire, timeout_seconds=TIMEOUT_SECONDS)
    except Closed as end:
        seen = Nothing(f"{end} (HTTP/2)", closed=True)
    except TimeoutError:
        seen = Nothing("no answer (HTTP/2)", closed=False)
    else:
        return served("the door spoke HTTP/2 in the clear")
    finally:
        await wire.close()
    request = permitted(way)
    data = request_bytes(request.method, request.path, [("host", way.authority)])
    wire = await dial_unix(door)
    try:
        got = await exchange(wire, data, [request.method], timeout_seconds=TIMEOUT_SECONDS)
    finally:
        await wire.close()
    if got.answers:
        return served(f"answered {got.answers[0].status} in the clear")
    if not got.closed:
        seen = Nothing("no answer (HTTP/1.1)", closed=False)
    return await judged_at_door(arena, way, seen)
