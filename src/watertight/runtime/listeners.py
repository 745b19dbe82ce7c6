"""Every socket that our processes listen on, as the kernel tells it in /proc (proc(5)).

For the proof: what listens must be known. The init's own control socket is not listed: it is the
operator's, in a directory that no process of a pod sees.
"""

import contextlib
import ipaddress
import os
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from watertight.attack.arena import Listening
from watertight.runtime.proc import descendants, namespace_pids
from watertight.runtime.states import PodStatus

_TCP_LISTEN = "0A"  # include/net/tcp_states.h
_UDP_UNCONNECTED = "07"
_ACCEPTS = 0x10000  # __SO_ACCEPTCON, include/uapi/linux/net.h
_UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Socket:
    """A socket that listens; the address is as in :func:`listening_in`."""

    inode: int
    address: str


def listening_in(pod: PodStatus, children: Mapping[int, list[int]]) -> list[Listening]:
    """Each socket once, with the process that holds it: ``proxy``, ``app``, or ``unknown``.

    TCP as ``127.0.0.1:8000`` or ``[::1]:8000``, UDP as ``udp:127.0.0.1:53``, Unix sockets as
    ``unix:/path`` (``unix:@name``: abstract). In a network namespace of the pod's own, a socket
    that none of its processes holds is listed too. ``children``: :func:`.proc.family`.
    """
    try:
        return list(_of_pod(pod, children))
    except (FileNotFoundError, ProcessLookupError):  # its init has ended, and so has all
        return []


def _of_pod(pod: PodStatus, children: Mapping[int, list[int]]) -> Iterator[Listening]:
    network = _network(pod.pid)
    own_network = network != _network(os.getpid())
    sockets = {network: list(sockets_of(pod.pid))}
    owners: dict[int, str] = {}
    for process, pids in reversed(_trees(pod, children).items()):  # who is known has the last word
        for pid in pids:
            with contextlib.suppress(OSError):
                if (other := _network(pid)) not in sockets:
                    sockets[other] = list(sockets_of(pid))
                owners |= dict.fromkeys(held(pid), process)
    # A process that the init starts is a fork of it for a moment, and holds what it holds.
    inits = set(held(pod.pid))
    for found, its in sockets.items():
        for socket in its:
            owner = owners.get(socket.inode)
            if owner is None and not (own_network and found == network):
                continue  # another pod's
            if owner in {None, _UNKNOWN} and socket.inode in inits:
                continue
            yield Listening(pod.name, owner or _UNKNOWN, socket.address)


def _trees(pod: PodStatus, children: Mapping[int, list[int]]) -> dict[str, list[int]]:
    """Process name → the pids, on this host, of its whole tree; the rest is ``unknown``."""
    names = {p.pid: p.name for p in pod.processes if p.pid is not None}
    depth = len(namespace_pids(pod.pid)) - 1
    everyone = descendants(pod.pid, children)
    trees: dict[str, list[int]] = {}
    for pid in children.get(pod.pid, ()):
        with contextlib.suppress(OSError):
            # The same process, as the pod's init numbers it.
            if (name := names.get(namespace_pids(pid)[depth])) is not None:
                trees[name] = [pid, *descendants(pid, children)]
    known = {pid for tree in trees.values() for pid in tree}
    trees[_UNKNOWN] = [pid for pid in everyone if pid not in known]
    return trees


def _network(pid: int) -> str:
    return str(Path(f"/proc/{pid}/ns/net").readlink())


def held(pid: int) -> Iterator[int]:
    """The inodes of the sockets that a process has open."""
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            link = str(entry.readlink())
            if link.startswith("socket:["):
                yield int(link[8:-1])


def sockets_of(pid: int) -> Iterator[Socket]:
    """Everything that listens in the network namespace of a process."""
    network = Path(f"/proc/{pid}/net")
    for name, state, prefix in (
        ("tcp", _TCP_LISTEN, ""),
        ("tcp6", _TCP_LISTEN, ""),
        ("udp", _UDP_UNCONNECTED, "udp:"),
        ("udp6", _UDP_UNCONNECTED, "udp:"),
    ):
        for fields in _table(network / name):
            if fields[3] == state:
                yield Socket(int(fields[9]), prefix + _address(fields[1]))
    for fields in _table(network / "unix"):
        if int(fields[3], 16) & _ACCEPTS:
            yield Socket(int(fields[6]), f"unix:{fields[7] if len(fields) > 7 else ''}")


def _table(path: Path) -> list[list[str]]:
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:  # a kernel without IPv6
        return []
    return [line.split(maxsplit=11) for line in text.splitlines()[1:]]


def _address(field: str) -> str:
    """``0100007F:1F90`` → ``127.0.0.1:8080``: words of 32 bits, each in the host's byte order.

    An IPv4 address that an IPv6 socket listens on (RFC 4291 section 2.5.5.2) is told as IPv4.
    """
    words, port = field.split(":")
    packed = b"".join(struct.pack("=I", int(words[i : i + 8], 16)) for i in range(0, len(words), 8))
    address = ipaddress.ip_address(packed)
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is None:
            return f"[{address}]:{int(port, 16)}"
        address = address.ipv4_mapped
    return f"{address}:{int(port, 16)}"
