"""Files that hold secrets or state: never half written, never readable by others."""

import ctypes
import os
import secrets
from pathlib import Path

_LIBC = ctypes.CDLL(None)
_KEEP_SIZE = 1

PRIVATE_FILE = 0o600
PRIVATE_DIRECTORY = 0o700


def make_private_directory(path: Path) -> None:
    """Makes a directory that only its owner enters. One that exists is left as it is.

    Parents are made as the umask says. The files inside are 0600 in any case.
    """
    path.mkdir(parents=True, exist_ok=True, mode=PRIVATE_DIRECTORY)


def write_atomically(path: Path, data: bytes) -> None:
    """Writes a 0600 file so that a crash at any step leaves the old file or the new one, whole.

    The bytes reach the disk before the name does (fsync of the file, rename, fsync of the
    directory). Raises ``OSError``.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)  # noqa: PTH105 - one spelling for the three steps
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def reserve(descriptor: int, size_bytes: int) -> None:
    """Sets disk space aside for a file that will grow to this size; its length stays as it is.

    fallocate(2) with FALLOC_FL_KEEP_SIZE. Where there is no space, or the file system cannot,
    nothing is set aside.
    """
    _LIBC.fallocate(descriptor, _KEEP_SIZE, ctypes.c_long(0), ctypes.c_long(size_bytes))


def sync_directory(path: Path) -> None:
    """Makes the names in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_leftovers(directory: Path) -> None:
    """Removes the temporary files that a crash left."""
    for leftover in directory.glob(".*.tmp"):
        leftover.unlink(missing_ok=True)
