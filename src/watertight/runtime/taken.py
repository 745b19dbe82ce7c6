"""Whether an address of this host can be listened on, and if not, who has it (proc(5))."""

import contextlib
import errno
import ipaddress
import os
import shlex
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from watertight.model.system import GATEWAY
from watertight.runtime.listeners import held, sockets_of
from watertight.runtime.proc import process_ids
from watertight.runtime.runs import state_of

_UNPRIVILEGED = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
LOOPBACK = "127.0.0.1"
_ENVOY = "envoy"


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why an address cannot be listened on, in words that follow it, and what to do."""

    why: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Folder:
    """Who asks: a folder, and the run directory of its system."""

    project: Path
    run: Path


@dataclass(frozen=True, slots=True)
class _Holder:
    """A program that listens; ``run`` and ``project`` if it is a gateway of ours."""

    name: str
    run: Path | None = None
    project: Path | None = None


def obstacle(address: str, port: int, folder: Folder | None = None) -> Obstacle | None:
    """Tries the address, and lets it go at once; None if nothing stands against it.

    The gateway of ``folder``'s own run directory is nothing: `up` takes it over, or ends it.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as trial:
            # Connections of before that only wait for their end are no obstacle (socket(7)).
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind((address, port))
    except OSError as error:
        return _obstacle(address, port, error, folder)
    return None


def _obstacle(address: str, port: int, error: OSError, folder: Folder | None) -> Obstacle | None:
    if error.errno == errno.EADDRINUSE:
        holders = sorted(set(_holders(address, port)), key=lambda holder: holder.name)
        runs = {holder.run for holder in holders}
        if folder is not None and runs == {folder.run}:
            return None
        remedy = "End that, or choose another port."
        if folder is not None and {holder.project for holder in holders} == {folder.project}:
            ending = f"watertight down {shlex.quote(str(folder.project))}"
            remedy = f"An earlier run of this folder left it: `{ending}` ends it."
        elif runs and None not in runs:
            remedy = "End that (`watertight down` there), or choose another port."
        who = " and ".join(dict.fromkeys(holder.name for holder in holders))
        who = who or "a program that this user may not see"
        return Obstacle(f"is taken: {who} listens there", remedy)
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


def _holders(address: str, port: int) -> Iterator[_Holder]:
    """Each program that listens there, as far as we may see it."""
    inodes = {
        found.inode
        for found in sockets_of(os.getpid())
        if not found.address.startswith(("unix:", "udp:")) and _meet(found.address, address, port)
    }
    for pid in process_ids():
        with contextlib.suppress(OSError):
            if inodes & set(held(pid)):
                yield _holder(pid)


def _meet(listening: str, address: str, port: int) -> bool:
    host, _, its_port = listening.rpartition(":")
    if int(its_port) != port:
        return False
    theirs, ours = ipaddress.ip_address(host.strip("[]")), ipaddress.ip_address(address)
    return theirs == ours or theirs.is_unspecified or ours.is_unspecified


def _holder(pid: int) -> _Holder:
    """By its name; never by its arguments, which may hold secrets."""
    name = Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace").strip()
    shown = "".join(c if c.isprintable() else "?" for c in name)
    run = _run_of_gateway(pid) if name == _ENVOY else None
    state = state_of(run) if run is not None else None
    if run is None or state is None:
        return _Holder(f"{shown} (process {pid})")
    return _Holder(f"the gateway of the system in {state.parent}", run, state.parent)


def _run_of_gateway(pid: int) -> Path | None:
    """If it is a gateway of ours: the run directory that it is of."""
    words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    with contextlib.suppress(ValueError, IndexError):
        bootstrap = Path(os.fsdecode(words[words.index(b"--config-path") + 1]))
        # /run/watertight/0123456789/xds/gateway/bootstrap.json; see Layout
        return bootstrap.parents[2] if bootstrap.parent.name == GATEWAY else None
    return None
