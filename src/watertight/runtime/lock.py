"""One control process a system: two would undo each other's work."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from watertight.errors import WatertightError


class AlreadyRunningError(WatertightError):
    """Another control process holds the system."""

    def __init__(self, state: Path, pid: str) -> None:
        super().__init__(
            f"Another `watertight up` (process {pid}) runs this system ({state.parent}).",
            remedy="Use `watertight apply` to change it, or `watertight down` to stop it.",
        )


@contextmanager
def only_one(state: Path) -> Iterator[None]:
    """Holds the system whose ``.watertight`` directory this is, until the block or process ends.

    Raises :class:`AlreadyRunningError`. The lock is flock(2)'s, so none is ever left behind.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(state / "lock", flags, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
            raise AlreadyRunningError(state, holder or "unknown") from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)
