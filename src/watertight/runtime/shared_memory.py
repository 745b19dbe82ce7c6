"""What the processes of a server share by files of memory, as PostgreSQL's parallel queries do.

All of a server's sessions have one ``/dev/shm``. Who fills it has others fail that are about to run
in parallel, and takes nothing that a process of his is charged with: no limit is near.

Sources: shm_overview(7), proc_pid_maps(5); PostgreSQL's src/backend/storage/ipc/dsm_impl.c.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path

PLACE = Path("/dev/shm")  # noqa: S108 - the server's own
_MAPPED = re.compile(rb"^([0-9a-f]+)-([0-9a-f]+) \S+ \S+ \S+ \S+ +(\S+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class SharedMemory:
    """A file system of memory that the processes of one server have for themselves."""

    place: Path = PLACE

    def excess_bytes(self) -> int:
        """How much more than three quarters is in use; the last is for whoever comes next."""
        found = os.statvfs(self.place)
        return (found.f_blocks // 4 - found.f_bfree) * found.f_frsize

    def mapped_bytes(self, pid: int) -> int:
        """What a process has mapped of it; 0 if it has gone, or may not be looked at."""
        try:
            with open(f"/proc/{pid}/maps", "rb") as maps:  # noqa: PTH123 - as in memory.py
                found = _MAPPED.findall(maps.read())
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            return 0
        ours = bytes(self.place) + b"/"
        return sum(int(end, 16) - int(start, 16) for start, end, path in found if ours in path)
