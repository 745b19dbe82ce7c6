"""The reachability matrix: every ordered pair that was not declared, tried every way there is."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from watertight.enforcers.attack.tls import Alert, Hello
from watertight.enforcers.attack.wire import Absent, Closed, dial_unix
from watertight.enforcers.contract import (
    Arena,
    Listening,
    Observation,
    Probe,
    not_run,
    refused,
    served,
)
from watertight.enforcers.envoy.probes.make import attack
from watertight.enforcers.envoy.probes.requests import TIMEOUT_SECONDS, open_door
from watertight.enforcers.envoy.probes.ways import sealed_pairs, ways
from watertight.model.addresses import loopback_addresses
from watertight.model.system import GATEWAY, Listen, System

LOCAL = "127.0.0.1"


def probes(system: System) -> Iterator[Probe]:
    """For every undeclared pair: by name, by address, at the app's port, and at every door."""
    for caller, callee, listens in sealed_pairs(system):
        channel = f"{caller} -> {callee}"
        yield attack(
            "reach.doors",
            channel,
            f"{caller}'s genuine SVID at every door of {callee}",
            _doors,
            caller,
            callee,
        )
        if caller != GATEWAY:
            yield from _from_inside(system, caller, callee, listens)
    for way in ways(system):
        if way.from_service and not _same_port(system, way.caller, way.listens):
            yield attack(
                "reach.app-port",
                way.channel,
                f"{LOCAL}:{way.listens.port}, the app of {way.callee} itself, past every proxy",
                _app_port,
                way.caller,
                way.callee,
                way.listens,
            )


def _from_inside(system: System, caller: str, callee: str, listens: Listen) -> Iterator[Probe]:
    channel = f"{caller} -> {callee}"
    yield attack(
        "reach.name",
        channel,
        f"the name {callee} from inside {caller}",
        _name,
        caller,
        callee,
        listens,
    )
    yield attack(
        "reach.address",
        channel,
        f"the loopback address that {callee} would have, port {listens.port}",
        _address,
        caller,
        callee,
        listens,
    )
    if not _same_port(system, caller, listens):
        yield attack(
            "reach.app-port",
            channel,
            f"{LOCAL}:{listens.port}, the app of {callee} itself",
            _app_port,
            caller,
            callee,
            listens,
        )


def _same_port(system: System, caller: str, listens: Listen) -> bool:
    """On its own port a caller finds itself: no proof of anything."""
    own = system.services[caller].listens
    return own is not None and own.port == listens.port


async def _name(arena: Arena, caller: str, callee: str, listens: Listen) -> Observation:
    answer = await (await arena.inside(caller)).call("resolve", name=callee)
    if not answer["addresses"]:
        return refused("the name does not resolve")
    seen = await _connect(arena, caller, answer["addresses"][0], listens.port)
    return replace(seen, detail=f"resolves; {seen.detail}")


async def _address(arena: Arena, caller: str, callee: str, listens: Listen) -> Observation:
    if arena.placement.shared_network:
        address = arena.address(caller, callee)
    else:
        address = loopback_addresses([callee])[callee]
    return await _connect(arena, caller, address, listens.port)


async def _app_port(arena: Arena, caller: str, callee: str, listens: Listen) -> Observation:
    if not _runs(await arena.listening(), callee, listens):
        return not_run(f"the app of {callee} does not listen on port {listens.port}")
    return await _connect(arena, caller, LOCAL, listens.port)


def _runs(listening: Sequence[Listening], callee: str, listens: Listen) -> bool:
    return any(
        entry.workload == callee
        and entry.process == "app"
        and entry.address.endswith(f":{listens.port}")
        for entry in listening
    )


async def _connect(arena: Arena, caller: str, address: str, port: int) -> Observation:
    answer = await (await arena.inside(caller)).call(
        "raw", host=address, port=port, data="", timeout_seconds=TIMEOUT_SECONDS, idle_seconds=0.2
    )
    if "error" in answer:
        return refused(answer["error"])
    return served(f"{address}:{port} took the connection")


async def _doors(arena: Arena, caller: str, callee: str) -> Observation:
    """Nobody's door may open to ``caller``; nor may anybody await it at a door of its own."""
    hello = Hello(credential=await arena.svid(caller))
    knocked = 0
    for path in arena.doors(callee):
        try:
            wire = await dial_unix(path)
        except Absent:
            continue  # what a removed door leaves behind: a file on which nobody listens
        try:
            await open_door(wire, hello)
        except Alert:
            knocked += 1
        except Closed as end:
            return not_run(f"{path.name}: {end}, without an alert: refused, or broken?")
        else:
            return served(f"the door {path.name} spoke HTTP/2 with {caller}")
        finally:
            await wire.close()
        if path == arena.door(callee, caller):
            return served(f"{callee} awaits {caller} at a door of its own")
    if not knocked and any(way.callee == callee for way in ways(arena.system)):
        return not_run(f"{callee} has no open door at all: its proxy does not run")
    return refused(f"{knocked} doors, each with a TLS alert")
