"""Small files that can be written on a full disk, for the room of what comes next is set aside.

Beside a file that is replaced lies a spare of the same size whose blocks are written. The next
content goes into those, and the two change names (renameat2(2), RENAME_EXCHANGE): nothing is
allocated and nothing freed, so whoever waits for every block that comes free gets none between two
steps. What a content leaves of its file is line feeds, which neither JSON nor YAML minds. For files
that come and go there is a directory of spares, which take a new name when they are needed, and
come back.

Where the file system copies what is written (Btrfs, ZFS), room may still be missing.
"""

import contextlib
import ctypes
import errno
import os
from pathlib import Path

from watertight.identity.files import make_private_directory, sync_directory, write_atomically

STEP_BYTES = 64 * 1024
"""A file has a multiple of this, at least twice what is in it: the next content may be longer."""

POOL_BYTES = 4096
"""Of each file of a pool: one block."""

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
            _overwrite(self._spare, data.ljust(max(room, self._spare.stat().st_size), b"\n"))
            _exchange(self._spare, self._path)
            sync_directory(self._path.parent)
        except OSError:
            return False
        return True

    def _replace_anew(self, data: bytes, most_bytes: int) -> None:
        steps = -(-2 * most_bytes // STEP_BYTES)
        write_atomically(self._path, data.ljust(steps * STEP_BYTES, b"\n"))


class Pool:
    """Room for a few small files that come and go, 0600, each of one block. Hold a lock."""

    def __init__(self, directory: Path, files: int) -> None:
        self._spares = [directory / f"{number}.spare" for number in range(files)]

    def write(self, path: Path, data: bytes) -> None:
        """Writes a file, atomically and durably; it ends with line feeds. Raises ``OSError``."""
        for spare in self._spares:
            if len(data) <= _written(spare):
                with contextlib.suppress(OSError):
                    _overwrite(spare, data.ljust(POOL_BYTES, b"\n"))
                    os.replace(spare, path)  # noqa: PTH105 - as in files.py
                    sync_directory(path.parent)
                    return
        write_atomically(path, data)

    def remove(self, path: Path) -> None:
        """Removes a file; its block comes back, with nothing in it. Raises ``OSError``."""
        missing = next((spare for spare in self._spares if not spare.exists()), None)
        if missing is not None and _written(path) == POOL_BYTES:
            with contextlib.suppress(OSError):
                _overwrite(path, b"\n" * POOL_BYTES)
                os.replace(path, missing)  # noqa: PTH105
                return
        path.unlink(missing_ok=True)

    def prepare(self) -> None:
        """Sets aside what is not, if there is room."""
        with contextlib.suppress(OSError):
            for spare in self._spares:
                if _written(spare) != POOL_BYTES:
                    make_private_directory(spare.parent)
                    write_atomically(spare, b"\n" * POOL_BYTES)


def _written(path: Path) -> int:
    """How many bytes of it can be overwritten without a new block; none, if it has holes."""
    try:
        status = path.lstat()
    except OSError:
        return 0
    whole = status.st_blocks * _BLOCK_BYTES >= status.st_size
    return status.st_size if whole else 0


def _overwrite(path: Path, data: bytes) -> None:
    """Durably."""
    descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        done = 0
        while done < len(data):
            done += os.pwrite(descriptor, data[done:], done)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
