"""Who is calling: a process is attested by the process tree that we started, and by its uid.

The kernel names the peer of a Unix socket; the caller takes no part and shows no secret (SPIFFE
Workload API, section 3; SPIFFE Workload Endpoint, section 4). Process ids are used again, so a
process is always named by its id *and* its start time, and a pidfd of the peer tells whether what
was read in ``/proc`` was still about that peer.
"""

import errno
import os
import signal
import socket
import struct
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from watertight.identity.errors import IdentityError

SO_PEERPIDFD = 77
"""Linux 6.5 and newer (include/uapi/asm-generic/socket.h); Python has no name for it yet."""

_UCRED = struct.Struct("3i")
_DEEPEST_TREE = 256
_ATTEMPTS = 3


class AttestationError(IdentityError):
    """The caller is none of the workloads that we started. Says why, for the log only."""


@dataclass(frozen=True, slots=True)
class Process:
    """One process, told apart from an earlier or later owner of the same id.

    ``start_ticks`` is field 22 of ``/proc/PID/stat``: clock ticks since boot.
    """

    pid: int
    start_ticks: int


@dataclass(frozen=True, slots=True)
class Peer:
    """The other end of a Unix socket, as the kernel names it (``unix(7)``, SO_PEERCRED).

    ``pid`` and ``uid`` are those of the moment of ``connect``. ``pidfd`` refers to that process
    for good: when the process has ended, it never comes to mean the next owner of the id.
    """

    pid: int
    uid: int
    gid: int
    pidfd: int


class Attestor(Protocol):
    """Decides which workload a caller is."""

    def attest(self, peer: Peer) -> str:
        """The workload's name; raises :class:`AttestationError` with the reason otherwise."""
        ...


@contextmanager
def peer_of(connection: socket.socket) -> Iterator[Peer]:
    """The peer of a connected Unix socket; its pidfd is closed at the end of the block.

    Raises :class:`AttestationError` if the peer has ended already, or is out of our sight (in a
    pid namespace that ours does not contain).
    """
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    pid, uid, gid = _UCRED.unpack(credentials)
    if pid <= 0:
        raise AttestationError("The caller's process is not visible from our pid namespace.")
    pidfd = _pidfd(connection, pid)
    try:
        yield Peer(pid, uid, gid, pidfd)
    finally:
        os.close(pidfd)


def _pidfd(connection: socket.socket, pid: int) -> int:
    """The kernel's own pidfd of the peer; before Linux 6.5, one of the process with its id."""
    try:
        return connection.getsockopt(socket.SOL_SOCKET, SO_PEERPIDFD)
    except OSError as error:
        # Only a kernel that lacks the option may be asked by id: any other error means that the
        # peer has ended (EINVAL or ESRCH, by version), and its id may be somebody else's by now.
        if error.errno != errno.ENOPROTOOPT:
            raise AttestationError(f"The caller (pid {pid}) has ended.") from error
    try:
        return os.pidfd_open(pid)
    except OSError as error:
        raise AttestationError(f"The caller (pid {pid}) has ended.") from error


@dataclass(frozen=True, slots=True)
class _Status:
    """What ``/proc/PID/stat`` says of one process and of who started it."""

    process: Process
    parent_pid: int


def start_ticks(pid: int, proc: Path = Path("/proc")) -> int:
    """The start time of a process that runs now; raises :class:`AttestationError` otherwise."""
    return _status(pid, proc).process.start_ticks


def _status(pid: int, proc: Path) -> _Status:
    try:
        text = (proc / str(pid) / "stat").read_bytes()
    except OSError as error:
        raise AttestationError(f"Process {pid} cannot be read: {error.strerror}.") from error
    # proc_pid_stat(5): the name stands in parentheses and may hold any byte, these included.
    fields = text[text.rindex(b")") + 2 :].split()
    return _Status(Process(pid, int(fields[19])), int(fields[1]))


def _alive(pidfd: int) -> bool:
    try:
        signal.pidfd_send_signal(pidfd, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # It lives, and belongs to somebody else.
    return True


@dataclass(frozen=True, slots=True)
class _Admitted:
    root: Process
    uids: frozenset[int]


class ProcessTreeAttestor:
    """Knows the root process of each workload's tree and the uids that may speak for it.

    A caller is a workload iff it is that root or descends from it, and its uid is expected. An
    orphan stays in the tree as long as the root reaps orphans: as the first process of a pid
    namespace does, or a process that called ``prctl(PR_SET_CHILD_SUBREAPER)``.
    """

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._proc = proc
        self._admitted: dict[str, _Admitted] = {}

    def admit(self, workload: str, root: Process, uids: Collection[int]) -> None:
        """From now on, processes below ``root`` with one of these uids are ``workload``.

        Replaces what was known of the workload before (its earlier run).
        """
        self._admitted[workload] = _Admitted(root, frozenset(uids))

    def withdraw(self, workload: str) -> None:
        """The workload has ended: nobody is it any more. Unknown names are no error."""
        self._admitted.pop(workload, None)

    def attest(self, peer: Peer) -> str:
        """Which workload ``peer`` is; raises :class:`AttestationError` with the reason."""
        line = self._line(peer)
        # Nearest first: should one tree stand in another, the inner one decides.
        for process in line:
            for workload, admitted in self._admitted.items():
                if admitted.root == process:
                    return self._with_uid(workload, admitted, peer)
        raise AttestationError(
            f"The caller (pid {peer.pid}, uid {peer.uid}) descends from no workload of ours.",
            remedy="Only what `watertight up` started has an identity.",
        )

    @staticmethod
    def _with_uid(workload: str, admitted: _Admitted, peer: Peer) -> str:
        if peer.uid not in admitted.uids:
            raise AttestationError(
                f"The caller (pid {peer.pid}) runs inside {workload!r} but as uid {peer.uid}.",
                remedy=f"Expected uid: {', '.join(map(str, sorted(admitted.uids)))}.",
            )
        return workload

    def _line(self, peer: Peer) -> tuple[Process, ...]:
        """The peer, its parent, and so on to the top; consistent, and about the peer itself."""
        for _ in range(_ATTEMPTS):
            # A parent that ends between two reads may leave its id to a stranger. The line is
            # believed only if a second walk finds the same processes, start times included.
            line = self._walk(peer.pid)
            if line and line == self._walk(peer.pid):
                break
        else:
            line = ()
        if not _alive(peer.pidfd):
            raise AttestationError(f"The caller (pid {peer.pid}) has ended.")
        if not line:
            raise AttestationError(f"The process tree above pid {peer.pid} does not hold still.")
        return line

    def _walk(self, pid: int) -> tuple[Process, ...]:
        """One look at the processes from ``pid`` upwards; empty if they changed meanwhile."""
        line: list[Process] = []
        while pid > 0 and len(line) < _DEEPEST_TREE:
            try:
                status = _status(pid, self._proc)
            except AttestationError:
                return ()
            if line and status.process.start_ticks > line[-1].start_ticks:
                return ()  # Younger than its child: the id is a stranger's by now.
            line.append(status.process)
            pid = status.parent_pid
        return tuple(line)
