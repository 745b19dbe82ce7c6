"""A small file that can be replaced on a full disk, for the room of its next content is set aside.

Beside it lies a spare of the same size whose blocks are written. The next content goes into those,
and the two change names (renameat2(2), RENAME_EXCHANGE): nothing is allocated and nothing freed, so
whoever waits for every block that comes free gets none between two steps. What a content leaves of
its file is line feeds, which neither JSON nor YAML minds.

Where the file system copies what is written (Btrfs, ZFS), room may still be missing.
"""

import contextlib
import ctypes
import errno
import os
from pathlib import Path

from watertight.identity.files import sync_directory, write_atomically

STEP_BYTES = 64 * 1024
"""A file has a multiple of this, at least twice what is in it: the next content may be longer."""

_LIBC = ctypes.CDLL(None, use_errno=True)
_EXCHANGE = 2
_HERE = -100
_BLOCK_BYTES = 512
"""Of ``st_blocks``, whatever the file system (inode(7))."""


class SetAside:
    """One such file, 0600, and its spare. Hold a lock: two writers would share the spare."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._spare = path.with_name(f"{path.name}.spare")

    def replace(self, data: bytes, *, next_bytes: int = 0) -> None:
        """Replaces the content: a crash at any step leaves the old or the new one, durably.

        ``next_bytes``: how long the next content will be, if that is known to be more. Raises
        ``OSError``; then the old one stands.
        """
        most = max(len(data), next_bytes)
        room = min(_written(self._spare), _written(self._path))
        if len(data) > room or not self._replace_in_place(data, room):
            self._replace_anew(data, most)
        elif 2 * most > room:
            with contextlib.suppress(OSError):  # it is written; this is for the next time
                self._replace_anew(data, most)
        self.prepare()

    def prepare(self) -> None:
        """Sets aside what is not, if there is room; costs two looks where there is nothing to do.

        So a file of an earlier version is filled up, and a spare that found no room is made later.
        """
        with contextlib.suppress(OSError):
            if _written(self._path) < STEP_BYTES:
                data = self._path.read_bytes().rstrip(b"\n") + b"\n"
                self._replace_anew(data, len(data))
            if _written(self._spare) < (size := self._path.stat().st_size):
                write_atomically(self._spare, b"\n" * size)

    def _replace_in_place(self, data: bytes, room: int) -> bool:
        try:
            descriptor = os.open(self._spare, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                size = max(room, os.fstat(descriptor).st_size)
                _overwrite(descriptor, data.ljust(size, b"\n"))
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            _exchange(self._spare, self._path)
            sync_directory(self._path.parent)
        except OSError:
            return False
        return True

    def _replace_anew(self, data: bytes, most_bytes: int) -> None:
        steps = -(-2 * most_bytes // STEP_BYTES)
        write_atomically(self._path, data.ljust(steps * STEP_BYTES, b"\n"))


def _written(path: Path) -> int:
    """How many bytes of it can be overwritten without a new block; none, if it has holes."""
    try:
        status = path.lstat()
    except OSError:
        return 0
    whole = status.st_blocks * _BLOCK_BYTES >= status.st_size
    return status.st_size if whole else 0


def _overwrite(descriptor: int, data: bytes) -> None:
    done = 0
    while done < len(data):
        done += os.pwrite(descriptor, data[done:], done)


def _exchange(one: Path, other: Path) -> None:
    """Where the kernel or the file system cannot, ``one`` takes the name, and no spare is left."""
    try:
        renameat2 = _LIBC.renameat2
    except AttributeError:
        os.replace(one, other)  # noqa: PTH105 - as in files.py
        return
    if renameat2(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) == 0:
        return
    number = ctypes.get_errno()
    if number not in {errno.EINVAL, errno.ENOSYS}:
        raise OSError(number, os.strerror(number), str(other))
    os.replace(one, other)  # noqa: PTH105
