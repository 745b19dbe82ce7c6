"""What no limit of the kernel counts, and a pod's init therefore looks at itself."""

import time
from collections.abc import Sequence

from watertight.runtime.memory import MemoryWatch
from watertight.runtime.netlink import NetlinkWatch
from watertight.runtime.pod_wire import PROXY, PodWire, ProcessWire
from watertight.runtime.sandbox import watch_of

Running = Sequence[tuple[int, ProcessWire]]
"""Pids, and what each was started as."""
Found = tuple[ProcessWire, str, int]
"""For whose log, a line for it, and the pid to be ended for it, or 0."""


class Overuse:
    """The memory of a server's children, and what netlink sockets of the pod hold."""

    def __init__(self, pod: PodWire) -> None:
        self._isolated = pod["isolate_processes"]
        self._memory: dict[int, MemoryWatch] = {}
        """Pid → who looks after its children's; where it has a warden, that does."""
        self._memory_at = 0.0
        most_bytes = pod["unread_bytes"]
        self._netlink = NetlinkWatch(most_bytes) if most_bytes is not None else None
        self._netlink_at = 0.0
        self._taking = -1
        """Pid of who was ended for netlink last."""

    @property
    def due(self) -> float | None:
        """When to look next, on the monotonic clock."""
        due = [self._memory_at] if self._memory else []
        due += [self._netlink_at] if self._netlink else []
        return min(due, default=None)

    def look(self, children: Running, guests: Running) -> list[Found]:
        """What is too much now, if it is time; guests, the oldest first, are not started again."""
        now = time.monotonic()
        found = []
        if not self._isolated and now >= self._memory_at:
            found += self._look_at_memory(now, children)
        if now >= self._netlink_at:
            found += self._look_at_netlink(now, children, guests)
        return found

    def _look_at_memory(self, now: float, children: Running) -> list[Found]:
        for gone in self._memory.keys() - dict(children).keys():
            self._memory.pop(gone).close()
        said: list[Found] = []
        for pid, wire in children:
            watch = self._memory.get(pid) or watch_of(wire, pid)
            if watch is not None:
                self._memory[pid] = watch
                self._memory_at = now + watch.look()
                said += ((wire, line, 0) for line in watch.said)  # it ends them itself
                watch.said.clear()
        return said

    def _look_at_netlink(self, now: float, children: Running, guests: Running) -> list[Found]:
        """One after the other until it is little again: whose it is no table says.

        Guests first, the newest before others, since the proof tries this by one of its own.
        """
        if self._netlink is None:
            return []
        pause, too_much = self._netlink.look()
        self._netlink_at = now + pause
        if not too_much:
            return []
        apps = sorted(children, key=lambda child: child[1]["name"] == PROXY)
        ordered = [*reversed(guests), *apps]
        if not ordered or self._taking in dict(ordered):
            return []  # who was ended takes its time
        self._taking, wire = ordered[0]
        who = "ended a command that was run inside, as `verify` does," if guests else "ended"
        return [(wire, f"{who} for {too_much}", self._taking)]
