"""Whether an address of this host can be listened on, and if not, who has it (proc(5))."""

import contextlib
import errno
import ipaddress
import json
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from watertight.model.system import GATEWAY
from watertight.runtime.listeners import held, sockets_of
from watertight.runtime.proc import process_ids

_UNPRIVILEGED = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
LOOPBACK = "127.0.0.1"
_ENVOY = "envoy"


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why an address cannot be listened on, in words that follow it, and what to do."""

    why: str
    remedy: str


def obstacle(address: str, port: int) -> Obstacle | None:
    """Tries the address, and lets it go at once; None if nothing stands against it."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as trial:
            # Connections of before that only wait for their end are no obstacle (socket(7)).
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind((address, port))
    except OSError as error:
        return _obstacle(address, port, error)
    return None


def _obstacle(address: str, port: int, error: OSError) -> Obstacle:
    if error.errno == errno.EADDRINUSE:
        holders = sorted(set(_holders(address, port)))
        who = " and ".join(holders) or "a program that this user may not see"
        return Obstacle(f"is taken: {who} listens there", "End that, or choose another port.")
    if error.errno == errno.EADDRNOTAVAIL:
        return Obstacle(
            "is no address of this host",
            "Choose `127.0.0.1`, `0.0.0.0`, or one that `ip address` lists.",
        )
    if error.errno == errno.EACCES:
        first = _UNPRIVILEGED.read_text(encoding="ascii").strip()
        return Obstacle(
            f"is root's: ports below {first} are",
            f"Choose a port from {first}, run as root, or lower the bound "
            f"(sysctl net.ipv4.ip_unprivileged_port_start={port}).",
        )
    return Obstacle(f"cannot be listened on: {error.strerror}", "Choose another address.")


def _holders(address: str, port: int) -> Iterator[str]:
    """Each program that listens there, as far as we may see it."""
    inodes = {
        found.inode
        for found in sockets_of(os.getpid())
        if not found.address.startswith(("unix:", "udp:")) and _meet(found.address, address, port)
    }
    for pid in process_ids():
        with contextlib.suppress(OSError):
            if inodes & set(held(pid)):
                yield _program(pid)


def _meet(listening: str, address: str, port: int) -> bool:
    host, _, its_port = listening.rpartition(":")
    if int(its_port) != port:
        return False
    theirs, ours = ipaddress.ip_address(host.strip("[]")), ipaddress.ip_address(address)
    return theirs == ours or theirs.is_unspecified or ours.is_unspecified


def _program(pid: int) -> str:
    """By its name; never by its arguments, which may hold secrets."""
    name = Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace").strip()
    shown = "".join(c if c.isprintable() else "?" for c in name)
    project = _project_of_gateway(pid) if name == _ENVOY else None
    if project is not None:
        return f"the gateway of the system in {project}"
    return f"{shown} (process {pid})"


def _project_of_gateway(pid: int) -> Path | None:
    """If it is a gateway of ours: where the declaration stands that it runs for."""
    words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    with contextlib.suppress(ValueError, IndexError, OSError, KeyError):
        bootstrap = Path(os.fsdecode(words[words.index(b"--config-path") + 1]))
        # /run/watertight/0123456789/xds/gateway/bootstrap.json; see Layout
        if bootstrap.parent.name != GATEWAY:
            return None
        pod = bootstrap.parents[2] / "pods" / GATEWAY / "spec.json"
        log = json.loads(pod.read_bytes())["processes"][0]["log"]
        return Path(log).parents[2]
    return None
