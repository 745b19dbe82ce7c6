"""The reachability matrix: every ordered pair that was not declared, tried every way there is.

A system of n services has about n² such pairs. One look from inside a caller answers for all that
it must not reach, so a probe stands for many pairs and names each of them.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from watertight.attack.arena import Arena, Listening
from watertight.attack.places import idle
from watertight.attack.probe import Observation, Outcome, Probe, not_run, refused, served
from watertight.attack.tls import Alert, Hello
from watertight.attack.wire import Absent, Closed, dial_unix
from watertight.dataplane.attacks.make import attack
from watertight.dataplane.attacks.ports import EVERYWHERE, plain
from watertight.dataplane.attacks.requests import let_in, past_tls
from watertight.dataplane.attacks.ways import sealed_pairs, ways
from watertight.model.addresses import loopback_addresses
from watertight.model.system import GATEWAY, Listen, Protocol, System

LOCAL = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Target:
    """What a caller must not reach, and where it listens."""

    name: str
    listens: Listen


def probes(system: System) -> Iterator[Probe]:
    """For every undeclared pair: by name, by address, at the app's port, and at every door."""
    sealed: dict[str, list[Target]] = {}
    strangers: dict[Target, list[str]] = {}
    for caller, callee, listens in sealed_pairs(system):
        target = Target(callee, listens)
        strangers.setdefault(target, []).append(caller)
        if caller != GATEWAY:
            sealed.setdefault(caller, []).append(target)
    declared: dict[str, list[Target]] = {}
    for way in ways(system):
        if way.from_service:
            declared.setdefault(way.caller, []).append(Target(way.callee, way.listens))
    for caller in system.services:
        targets = sealed.get(caller, [])
        yield from _from_inside(system, caller, targets, [*targets, *declared.get(caller, [])])
    for target, callers in strangers.items():
        yield _at_the_doors(target, callers)


def _from_inside(
    system: System, caller: str, targets: Sequence[Target], apps: Sequence[Target]
) -> Iterator[Probe]:
    """``targets``: what it has no channel to. ``apps``: also what it has one to, since a channel
    leads through proxies and never to the app itself."""
    channel = f"{caller} -> *"
    if targets:
        pairs = [f"{caller} -> {target.name}" for target in targets]
        yield attack(
            "reach.name",
            channel,
            f"each name that it has no channel to ({len(targets)}), from inside {caller}",
            _names,
            caller,
            targets,
        ).standing_for(pairs)
        yield attack(
            "reach.address",
            channel,
            f"the loopback address that each of these would have ({len(targets)}), at its port",
            _addresses,
            caller,
            targets,
        ).standing_for(pairs)
    others = [target for target in apps if not _same_port(system, caller, target.listens)]
    if others:
        yield attack(
            "reach.app-port",
            channel,
            f"{LOCAL} at the port of each other app ({len(others)}), past every proxy",
            _app_ports,
            caller,
            others,
        ).standing_for([f"{caller} -> {target.name}" for target in others])


def _at_the_doors(target: Target, callers: Sequence[str]) -> Probe:
    callee = target.name
    return attack(
        "reach.doors",
        f"* -> {callee}",
        f"each caller that has no channel to {callee} ({len(callers)}), with its genuine SVID, "
        "at every door that no channel explains",
        _doors,
        target,
        callers,
    ).standing_for([f"{caller} -> {callee}" for caller in callers])


def _same_port(system: System, caller: str, listens: Listen) -> bool:
    """On its own port a caller finds itself: no proof of anything."""
    own = system.services[caller].listens
    return own is not None and own.port == listens.port


async def _names(arena: Arena, caller: str, targets: Sequence[Target]) -> Observation:
    inside = await arena.inside(caller)
    found = (await inside.call("resolve_all", names=[t.name for t in targets]))["addresses"]
    known = {t.name: (found[t.name][0], t.listens.port) for t in targets if found[t.name]}
    seen = await _connect(arena, caller, known)
    if seen.outcome is not Outcome.REFUSED:
        return seen
    return refused(f"{len(targets) - len(known)} names do not resolve; {seen.detail}")


async def _addresses(arena: Arena, caller: str, targets: Sequence[Target]) -> Observation:
    shared = arena.placement.shared_network
    return await _connect(
        arena,
        caller,
        {
            target.name: (
                arena.address(caller, target.name)
                if shared
                else loopback_addresses([target.name])[target.name],
                target.listens.port,
            )
            for target in targets
        },
    )


async def _app_ports(arena: Arena, caller: str, targets: Sequence[Target]) -> Observation:
    with idle():  # one look is for all who ask
        ports = _ports_of_apps(await arena.listening())
    if silent := [t.name for t in targets if t.listens.port not in ports.get(t.name, ())]:
        pairs = [f"{caller} -> {name}" for name in silent]
        return not_run(f"no app listens at its port: {', '.join(silent)}", pairs)
    return await _connect(
        arena, caller, {target.name: (LOCAL, target.listens.port) for target in targets}
    )


def _ports_of_apps(listening: Sequence[Listening]) -> dict[str, set[int]]:
    ports: dict[str, set[int]] = {}
    for entry in listening:
        port = entry.address.rpartition(":")[2]
        if entry.process == "app" and port.isdigit():
            ports.setdefault(entry.workload, set()).add(int(port))
    return ports


async def _connect(
    arena: Arena, caller: str, addresses: Mapping[str, tuple[str, int]]
) -> Observation:
    """From inside ``caller``, all at once. A connection that is taken is a breach."""
    if not addresses:
        return refused("there is nothing to connect to")
    inside = await arena.inside(caller)
    answer = await inside.call("connect_all", addresses=dict(addresses))
    itself: list[str] = []
    if answer["taken"]:
        listening = await arena.listening()
        shared = arena.placement.shared_network
        seen = [entry for entry in listening if shared or entry.workload == caller]
        itself = [n for n in answer["taken"] if takes_its_own(seen, caller, *addresses[n])]
    if taken := [name for name in answer["taken"] if name not in itself]:
        at = [f"{name} at {addresses[name][0]}:{addresses[name][1]}" for name in taken]
        detail = f"{', '.join(at)} took the connection"
        return served(detail, [f"{caller} -> {name}" for name in taken])
    reasons = [*answer["reasons"], *([f"taken by {caller}'s own app"] if itself else [])]
    return refused(f"{len(addresses)} connections refused: {', '.join(reasons)}")


def takes_its_own(listening: Sequence[Listening], caller: str, address: str, port: int) -> bool:
    """Whether none but the caller's own app can have taken this connection of the caller's.

    An app that binds 0.0.0.0 answers at each loopback address, also at those of others. A socket
    that is bound to the very address goes before (the kernel's choice, ``inet_lookup_listener``).
    """
    exact = [e for e in listening if plain(e.address) == f"{address}:{port}"]
    wide = [e for e in listening if e.address in {f"{host}:{port}" for host in EVERYWHERE}]
    takers = exact or wide
    return bool(takers) and all((e.workload, e.process) == (caller, "app") for e in takers)


async def _doors(arena: Arena, target: Target, callers: Sequence[str]) -> Observation:
    """Nobody may await a stranger at a door of its own, nor let it in where nobody is declared.

    At the doors of declared callers ``identity.other-workload`` tries every stranger.
    """
    callee, speaks = target.name, target.listens.protocol
    doors = [path for path in arena.doors(callee) if await _is_open(path)]
    declared = {
        arena.door(callee, way.caller) for way in ways(arena.system) if way.callee == callee
    }
    if declared and not declared.intersection(doors):
        return not_run(f"{callee} has no open door at all: its proxy does not run")
    strays = [path for path in doors if path not in declared]
    opened: dict[str, str] = {}
    unclear: dict[str, str] = {}
    for caller in callers:
        if arena.door(callee, caller) in strays:
            opened[caller] = f"{caller} is awaited at a door of its own"
        hello = Hello(credential=await arena.svid(caller)) if strays else Hello()
        for path in strays:
            seen = await _knock(path, hello, speaks)
            if seen.outcome is Outcome.SERVED:
                opened[caller] = f"the door {path.name} {seen.detail} {caller}"
            elif seen.outcome is Outcome.NOT_RUN:
                unclear[caller] = f"{path.name}: {seen.detail}"
    if opened:
        return served("; ".join(opened.values()), [f"{caller} -> {callee}" for caller in opened])
    if unclear:
        return not_run("; ".join(unclear.values()), [f"{caller} -> {callee}" for caller in unclear])
    return refused(f"{len(doors)} doors are open, each of them for a declared caller")


async def _is_open(path: Path) -> bool:
    """A removed door leaves a file behind on which nobody listens."""
    try:
        wire = await dial_unix(path)
    except Absent:
        return False
    await wire.close()
    return True


async def _knock(path: Path, hello: Hello, speaks: Protocol) -> Observation:
    try:
        wire = await dial_unix(path)
    except Absent as gone:
        return not_run(str(gone))
    try:
        await let_in(await past_tls(wire, hello, speaks), speaks)
    except Alert:
        return refused("a TLS alert")
    except Closed as end:
        return not_run(f"{end}, without an alert: refused, or broken?")
    except TimeoutError:
        return not_run("no answer")
    finally:
        await wire.close()
    return served("let in")
