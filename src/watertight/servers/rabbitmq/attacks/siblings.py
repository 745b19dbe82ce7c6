"""The broker's other ports, from inside its own network: the only place that they are in.

Erlang's distribution asks for a cookie (erlang.org, erts/erl_dist_protocol); the port mapper only
tells names, and must not let anybody stop it.
"""

import struct
from collections.abc import Iterator

from watertight.attack.arena import Arena
from watertight.attack.inside import dial_inside
from watertight.attack.login import TIMEOUT_SECONDS
from watertight.attack.probe import Observation, Probe, not_run, refused, served
from watertight.attack.wire import Closed, Wire
from watertight.model.system import Resource
from watertight.servers.rabbitmq.attacks.dialect import MAKE

HIGHEST_PORT = 65_535
_FLAGS = 0x0000_000D_F3D7_FFBF
"""Capabilities that OTP 25 offers itself."""
_KILL = b"\x00\x01k"


def _beside(port: int, number: int) -> int:
    found = port + 20_000 + number
    return found if found <= HIGHEST_PORT else port - 20_000 + number


def distribution_port(port: int) -> int:
    """Where other nodes and the broker's own command come in."""
    return _beside(port, 1)


def mapper_port(port: int) -> int:
    """Where nodes tell and ask for ports (epmd)."""
    return _beside(port, 2)


def probes(resource: Resource) -> Iterator[Probe]:
    """From a foothold in the broker's own network."""
    channel = f"anyone -> {resource.name}"
    yield MAKE.attack(
        "siblings.distribution",
        channel,
        "the Erlang distribution, without the cookie",
        _distribution,
        resource,
    )
    yield MAKE.attack("siblings.mapper", channel, "the port mapper, told to end", _mapper, resource)


async def _dial(arena: Arena, resource: Resource, port: int) -> Wire:
    inside = await arena.inside(resource.name)
    return await dial_inside(inside, "127.0.0.1", port, timeout_seconds=TIMEOUT_SECONDS)


async def _distribution(arena: Arena, resource: Resource) -> Observation:
    """The handshake of version 6, with a digest of no cookie: a node that is taken gets `a`."""
    wire = await _dial(arena, resource, distribution_port(resource.port))
    try:
        name = b"watertight-probe@localhost"
        hello = struct.pack(">cQIH", b"N", _FLAGS, 1, len(name)) + name
        await wire.send(struct.pack(">H", len(hello)) + hello)
        incoming = _Messages(wire)
        status = await incoming.next()
        if not status.startswith(b"sok"):
            return refused(f"the node says {status[:40]!r}")
        challenge = await incoming.next()
        if challenge[:1] not in (b"N", b"n"):
            return not_run(f"no challenge: {challenge[:20]!r}")
        reply = struct.pack(">cI", b"r", 1) + bytes(16)
        await wire.send(struct.pack(">H", len(reply)) + reply)
        answer = await incoming.next()
    except Closed as end:
        return refused(f"{end} after a wrong digest")
    finally:
        await wire.close()
    return served("the node takes us for another") if answer[:1] == b"a" else refused("no")


class _Messages:
    """What comes of a handshake: two bytes of length, then so many."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._data = b""

    async def next(self) -> bytes:
        """The next one. Raises ``Closed``, ``TimeoutError``."""
        await self._have(2)
        size: int = struct.unpack(">H", self._data[:2])[0]
        await self._have(2 + size)
        found, self._data = self._data[2 : 2 + size], self._data[2 + size :]
        return found

    async def _have(self, count: int) -> None:
        while len(self._data) < count:
            more = await self._wire.receive(TIMEOUT_SECONDS)
            if not more:
                raise Closed("hung up")
            self._data += more


async def _mapper(arena: Arena, resource: Resource) -> Observation:
    """epmd ends on KILL only if no node is registered, or if it was started to obey."""
    wire = await _dial(arena, resource, mapper_port(resource.port))
    try:
        await wire.send(_KILL)
        answer = await wire.receive(TIMEOUT_SECONDS)
    except Closed as end:
        return refused(str(end))
    finally:
        await wire.close()
    return served("it ends") if answer == b"OK" else refused(f"it says {answer[:10]!r}")
