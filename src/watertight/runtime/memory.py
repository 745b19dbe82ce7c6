"""Watches the memory of a server that makes a process for each session, and ends a greedy one.

By a signal, and not by a near bound of the kernel's. Where an allocation fails at a bad moment
(after a commit, within the handling of another error) PostgreSQL has no way out but to end all
sessions; a signal it heeds only where it may (src/include/miscadmin.h). Until then the process may
go on growing, also in what hears no signal. So at most one that was told to end runs while memory
is short; the others stand still. And it may grow by what is left for all, or by what the last steps
of a transaction take.

Sources: proc_pid_statm(5), proc_tid_children(5), prlimit(2). ADR 24.
"""

import contextlib
import os
import resource
import signal
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from watertight.runtime.shared_memory import SharedMemory

LOOK_SECONDS, CLOSE_LOOK_SECONDS = 0.02, 0.005
"""Until the next look: as a rule, and once somebody has half of his part, or all of them much.
A core fills some 3.3 GB/s: 66 MB, or 16 MB."""
TURN_SECONDS = 1.0
"""One that was told to end and does not, say for a lock that another holds, makes room for it."""
AHEAD = -5
"""Of -20 to 19 (setpriority(2))."""
WORKERS = "parallel"
"""``postgres: parallel worker for PID 1234``: whose it is its leader knows."""
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_STATM_BYTES = 256


@dataclass(slots=True)
class _Process:
    statm: int
    """Held open, so that a pid that is used again is not taken for it."""
    own_bytes: int = 0
    """That it does not share with others, and that is in memory."""
    asked_bytes: int = 0
    """What RLIMIT_DATA counts, in memory or not."""
    least_bytes: int = 0
    """What it may ask for after it was told to end, however little there is."""
    told: float | None = None
    """When it was told to end."""
    stopped: bool = False


@dataclass(slots=True)
class MemoryWatch:
    """The children of one process. ``look`` again after as many seconds as it says."""

    server: int
    each_bytes: int
    """Who has more is told to end."""
    all_bytes: int
    """What all may have; at three quarters of it, who has most of those that have most."""
    spared: Sequence[str]
    """Titles of processes that are never ended; one that ends with a space is a beginning."""
    shared: SharedMemory | None = None
    """What they share by files of memory, of which no process has a part of its own."""
    said: list[str] = field(default_factory=list)
    """What was done, in words, for whoever keeps a log; taken out by him."""
    _processes: dict[int, _Process] = field(default_factory=dict)
    _turn: int = 0
    """Who of those that were told to end may run, if not all may."""
    _turn_ends: float = 0.0

    def look(self) -> float:
        """Ends who has too much; how many seconds until the next look."""
        self._measure()
        total = sum(p.own_bytes for p in self._processes.values())
        most = max((p.own_bytes for p in self._processes.values()), default=0)
        for pid, process in list(self._processes.items()):
            if process.own_bytes > self.each_bytes and process.told is None:
                much = f"more than {self.each_bytes >> 20} MiB"
                self._tell(pid, process, process.own_bytes, much)
        alarm = self.all_bytes - (self.all_bytes >> 2)
        if total > alarm:
            sizes = {pid: process.own_bytes for pid, process in self._processes.items()}
            self._relieve(total - alarm, sizes, "and all together too much")
        if self.shared is not None and (excess := self.shared.excess_bytes()) > 0:
            leaders = (pid for pid in self._processes if _group(_title(pid)) != WORKERS)
            sizes = {pid: self.shared.mapped_bytes(pid) for pid in leaders}
            self._relieve(excess, sizes, "shared with its workers, and all together too much")
        ending = {pid: p for pid, p in self._processes.items() if p.told is not None}
        self._take_turns(ending, short=total > self.all_bytes >> 2)
        room = max(0, self.all_bytes - total)
        for pid, process in ending.items():
            self._bound(pid, max(process.least_bytes, process.own_bytes + room))
        near = total > self.all_bytes >> 2 or most > self.each_bytes >> 1 or bool(ending)
        return CLOSE_LOOK_SECONDS if near else LOOK_SECONDS

    def close(self) -> None:
        """Lets go of what it watches."""
        for process in self._processes.values():
            os.close(process.statm)
        self._processes.clear()

    def _measure(self) -> None:
        there = set(_children(self.server))
        for pid in there - self._processes.keys():
            with contextlib.suppress(OSError):
                statm = os.open(f"/proc/{pid}/statm", os.O_RDONLY | os.O_CLOEXEC)
                self._processes[pid] = _Process(statm)
        for pid, process in list(self._processes.items()):
            try:
                read = os.pread(process.statm, _STATM_BYTES, 0).split() if pid in there else []
            except ProcessLookupError:
                read = []
            if not read:
                os.close(process.statm)
                del self._processes[pid]
                continue
            process.own_bytes = (int(read[1]) - int(read[2])) * _PAGE_BYTES
            process.asked_bytes = int(read[5]) * _PAGE_BYTES

    def _relieve(self, excess_bytes: int, sizes: Mapping[int, int], why: str) -> None:
        """Tells the largest of the group that has most to end, until that gives enough back."""
        groups: dict[str, list[tuple[int, int]]] = {}
        for pid, size in sizes.items():
            if self._processes[pid].told is not None:
                excess_bytes -= size
            elif size:
                groups.setdefault(_group(_title(pid)), []).append((size, pid))
        while excess_bytes > 0 and groups:
            name = max(groups, key=lambda each: sum(size for size, _ in groups[each]))
            size, pid = max(groups[name])
            groups[name].remove((size, pid))
            if not groups[name]:
                del groups[name]
            if self._tell(pid, self._processes[pid], size, why):
                excess_bytes -= size

    def _tell(self, pid: int, process: _Process, size: int, why: str) -> bool:
        title = _title(pid)
        if any(f"{title} ".startswith(s) if s[-1] == " " else title == s for s in self.spared):
            return False
        process.told = time.monotonic()
        # What it asked for, it may fill without another word. And twice its part ends any
        # transaction, whose last steps must not fail.
        process.least_bytes = process.asked_bytes + 2 * self.each_bytes
        _signal(pid, signal.SIGTERM)
        self.said.append(f"ended for its memory ({size >> 20} MiB, {why}): {title}")
        return True

    def _take_turns(self, ending: dict[int, _Process], *, short: bool) -> None:
        if not short or len(ending) < 2:
            self._go_on(ending)
            return
        now = time.monotonic()
        if self._turn not in ending or now > self._turn_ends:
            others = [pid for pid in ending if pid != self._turn]
            # Who waits is next; who had a turn is at the end of the line.
            chosen = min(others, key=lambda pid: ending[pid].told or 0.0)
            if self._turn in ending:
                ending[self._turn].told = now
            self._turn, self._turn_ends = chosen, now + TURN_SECONDS
        for pid, process in ending.items():
            if pid != self._turn and not process.stopped:
                process.stopped = True
                _signal(pid, signal.SIGSTOP)
        self._go_on([self._turn])

    def _go_on(self, pids: Iterable[int]) -> None:
        for pid in pids:
            if self._processes[pid].stopped:
                self._processes[pid].stopped = False
                _signal(pid, signal.SIGCONT)

    def _bound(self, pid: int, most_bytes: int) -> None:
        with contextlib.suppress(OSError, ValueError):
            _, hard = resource.prlimit(pid, resource.RLIMIT_DATA)
            soft = most_bytes if hard == resource.RLIM_INFINITY else min(hard, most_bytes)
            resource.prlimit(pid, resource.RLIMIT_DATA, (soft, hard))


def hurry() -> None:
    """Whom this process watches does not keep it from looking, where it may say so."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, AHEAD)


def act_for(uid: int, gid: int) -> None:
    """Lets this process bound those of that user: it has their real uid and gid (prlimit(2)).

    So it takes no CAP_SYS_RESOURCE, which containers do not give. Its other rights it keeps.
    """
    os.setresgid(gid, -1, -1)
    os.setresuid(uid, -1, -1)


def _children(pid: int) -> list[int]:
    try:
        with open(f"/proc/{pid}/task/{pid}/children", "rb") as listed:  # noqa: PTH123 - so often
            return [int(child) for child in listed.read().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def _title(pid: int) -> str:
    """As its command line says it; empty: it has gone."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as line:  # noqa: PTH123 - as above
            return line.read().replace(b"\0", b" ").decode(errors="replace").strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _group(title: str) -> str:
    """Whose it is: the second word of a title, ``postgres: orders orders 127.0.0.1(50000) idle``.

    A parallel worker goes with its leader in any case, and by itself here.
    """
    return " ".join(title.split()[1:2])


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
