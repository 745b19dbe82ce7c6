"""The sandbox: what a compromised app can touch besides the doors that were declared for it."""

import secrets
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from watertight.attack.arena import Arena
from watertight.attack.probe import Observation, Probe, not_run, refused, served
from watertight.dataplane.attacks.make import attack
from watertight.dataplane.attacks.requests import TIMEOUT_SECONDS
from watertight.model.system import Gateway, System

LOCAL = "127.0.0.1"
LOOPBACK_INTERFACE = "lo"
COSTLY = {"isolation.left-behind"}
"""An agent more for each service …"""
COSTLY_PATIENCE = 3.0
"""… which waits for those that use up what the service may have."""


def probes(system: System) -> Iterator[Probe]:
    """For every service, whatever its channels are."""
    for service in system.services:
        channel = f"{service} -> host"
        tries = {
            "isolation.control-sockets": ("every proxy's xDS and admin socket", _control),
            "isolation.private-files": (
                "the authority's keys, the proxies' directories and the mesh's",
                _files,
            ),
            "isolation.interfaces": ("a network interface besides loopback", _interfaces),
            "isolation.host-port": ("a port that the prober opens on the host", _host_port),
            "isolation.proxy-memory": ("the memory of any proxy", _memory),
            "isolation.left-behind": (
                "shared memory, semaphores and queues that a program before it left",
                _left_behind,
            ),
        }
        if system.channels or system.gateway:
            tries["isolation.doors"] = ("every door of the mesh", _doors)
        for identifier, (what, tried) in tries.items():
            probe = attack(identifier, channel, f"{what}, from inside {service}", tried, service)
            costly = identifier in COSTLY
            yield replace(probe, costly=costly, patience=COSTLY_PATIENCE if costly else 1.0)
        if (gateway := system.gateway) is not None:
            yield attack(
                "isolation.gateway-port",
                channel,
                f"the gateway's port {gateway.port}, from inside {service}",
                _gateway_port,
                service,
                gateway,
            )


async def _doors(arena: Arena, service: str) -> Observation:
    every = [door for callee in arena.system.workloads() for door in arena.doors(callee)]
    return await _sockets(arena, service, every)


async def _control(arena: Arena, service: str) -> Observation:
    names = arena.system.workloads()
    sockets = [arena.placement.admin_socket(n) for n in names]
    sockets += [arena.placement.xds_socket(n) for n in names]
    return await _sockets(arena, service, [path for path in sockets if path.exists()])


async def _sockets(arena: Arena, service: str, paths: list[Path]) -> Observation:
    if not paths:
        return not_run("there is no such socket on this host")
    inside = await arena.inside(service)
    answer = await inside.call("unix", paths=[str(path) for path in paths])
    if connected := answer["connected"]:
        at = [f"{Path(path).parent.name}/{Path(path).name}" for path in connected]
        return served(f"connected to {', '.join(at)}")
    return refused(f"none of {len(paths)} can be reached")


async def _files(arena: Arena, service: str) -> Observation:
    placement = arena.placement
    private = [
        placement.project_directory / ".watertight" / "authority",
        placement.run_directory / "mesh",
        *(placement.proxy_directory(name) for name in arena.system.workloads()),
    ]
    there = [str(path) for path in private if path.exists()]
    if not there:
        return not_run("there are no such files on this host")
    answer = await (await arena.inside(service)).call("list", names=there)
    if found := answer["listed"]:
        return served(f"can list {', '.join(Path(name).name for name in found)}")
    return refused(f"none of {len(there)} can be listed")


async def _interfaces(arena: Arena, service: str) -> Observation:
    names = (await (await arena.inside(service)).call("interfaces"))["names"]
    if other := [name for name in names if name != LOOPBACK_INTERFACE]:
        return served(f"sees {', '.join(other)}")
    return refused("there is loopback only")


async def _host_port(arena: Arena, service: str) -> Observation:
    with socket.create_server((LOCAL, 0)) as listener:
        return await _connect(arena, service, LOCAL, listener.getsockname()[1])


async def _gateway_port(arena: Arena, service: str, gateway: Gateway) -> Observation:
    host = LOCAL if gateway.address in {"0.0.0.0", "::"} else gateway.address  # noqa: S104
    return await _connect(arena, service, host, gateway.port)


async def _connect(arena: Arena, service: str, host: str, port: int) -> Observation:
    answer = await (await arena.inside(service)).call(
        "raw", host=host, port=port, data="", timeout_seconds=TIMEOUT_SECONDS, idle_seconds=0.2
    )
    if "error" in answer:
        return refused(answer["error"])
    return served(f"{host}:{port} took the connection")


async def _memory(arena: Arena, service: str) -> Observation:
    answer = await (await arena.inside(service)).call("memory")
    if answer["readable"]:
        return served(f"the memory of {len(answer['readable'])} proxies opens")
    return refused(f"{len(answer['seen'])} proxies in sight, none opens")


async def _left_behind(arena: Arena, service: str) -> Observation:
    """By a program of that app that has ended, to another; each is started as the app itself is."""
    key = 1 + secrets.randbelow((1 << 31) - 1)
    async with arena.alone(service) as first:
        made = (await first.call("kept", key=key, make=True))["there"]
    found = (await (await arena.inside(service)).call("kept", key=key, make=False))["there"]
    if found:
        return served(f"{', '.join(found)} of a program that has ended")
    if not made:
        return not_run("a program can make none")
    return refused(f"{', '.join(made)} ended with who made them")
