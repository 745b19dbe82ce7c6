"""Every socket that a managed process listens on must be one that the declaration explains."""

import ipaddress
from collections.abc import Iterator

from watertight.attack.arena import Arena
from watertight.attack.probe import Observation, Probe, not_run, refused, served
from watertight.dataplane.attacks.make import attack
from watertight.dataplane.attacks.ways import ways
from watertight.model.addresses import callee_addresses
from watertight.model.placement import Placement
from watertight.model.system import GATEWAY, System

LOOPBACK = ("127.0.0.1", "[::1]")
EVERYWHERE = ("0.0.0.0", "[::]")  # noqa: S104 - looked for, never bound


def probes(system: System) -> Iterator[Probe]:
    """One for each service and the gateway; a server's sockets are its enforcer's matter."""
    for workload in system.callers():
        yield attack(
            "ports.unknown",
            f"anyone -> {workload}",
            f"a socket on which a process of {workload} listens and which nothing declares",
            _unknown,
            workload,
        )


async def _unknown(arena: Arena, workload: str) -> Observation:
    mine = [entry for entry in await arena.listening() if entry.workload == workload]
    if not any(entry.process == "proxy" for entry in mine):
        return not_run(f"the proxy of {workload} listens on nothing: it does not run")
    known = expected(arena.system, arena.placement, workload)
    strays = [e for e in mine if (e.process, plain(e.address)) not in known]
    if strays:
        return served("; ".join(sorted(f"{e.address} ({e.process})" for e in strays)))
    return refused(f"{len(mine)} sockets, each of them declared")


def plain(address: str) -> str:
    """The address with an IPv4 one that is mapped into IPv6 (RFC 4291 section 2.5.5.2) as IPv4."""
    host, separator, port = address.rpartition("]:")
    if not separator:
        return address
    mapped = ipaddress.IPv6Address(host.removeprefix("[")).ipv4_mapped
    return f"{mapped}:{port}" if mapped else address


def expected(system: System, placement: Placement, workload: str) -> set[tuple[str, str]]:
    """(process, address) of every socket that the declaration explains."""
    known = {("proxy", f"unix:{placement.admin_socket(workload)}")}
    gateway = system.gateway
    if workload == GATEWAY:
        return known | ({("proxy", gateway.endpoint)} if gateway else set())
    addresses = callee_addresses(system, workload, shared_network=placement.shared_network)
    for way in ways(system):
        if way.caller == workload:
            known.add(("proxy", f"{addresses[way.callee]}:{way.listens.port}"))
        if way.callee == workload:
            known.add(("proxy", f"unix:{placement.door(workload, way.caller)}"))
    for channel in system.outgoing(workload):
        if resource := system.resources.get(channel.target):
            known.add(("proxy", f"{addresses[resource.name]}:{resource.port}"))
    service = system.services[workload]
    own = [*service.private_ports, *([service.listens.port] if service.listens else [])]
    if own:
        # In a network namespace of its own there is nothing but loopback to bind.
        hosts = LOOPBACK if placement.shared_network else (*LOOPBACK, *EVERYWHERE)
        known |= {("app", f"{host}:{port}") for host in hosts for port in own}
    return known
