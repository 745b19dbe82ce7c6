"""How many files a process may have open, which is how many connections it can hold."""

import resource
from pathlib import Path

ENOUGH_FILES = 65_536
"""More than a proxy with all connections that it takes has open."""


def files_to_open() -> int:
    """Raises the bound for us and for what we start to :data:`ENOUGH_FILES`, if we may; what it is.

    The kernel's own is 4,096, where nobody raised it (setrlimit(2)).
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = max(hard, min(ENOUGH_FILES, _most()))
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))
    except (OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        return hard
    return wanted


def _most() -> int:
    """What nobody may exceed (proc_sys_fs(5))."""
    return int(Path("/proc/sys/fs/nr_open").read_bytes())
