"""Log files that cannot fill the disk: whole lines, and a few older generations beside them."""

import os
from pathlib import Path

LIMIT_BYTES = 8 * 1024 * 1024
_LONGEST_LINE_BYTES = 64 * 1024


class RotatingLog:
    """Appends what a process says to ``path``; generations before are ``path`` + ``.1``, ``.2`` …

    A full disk loses lines, never the process: writing never raises.
    """

    def __init__(self, path: Path, *, limit_bytes: int = LIMIT_BYTES, generations: int = 2) -> None:
        """``generations``: how many files there are at most, this one included."""
        self._path = path
        self._generations = generations
        self._limit = limit_bytes
        self._partial = b""
        self._descriptor = -1
        self._size = 0

    due: float | None = None
    """Nothing is ever due (:class:`watertight.runtime.accesslog.AccessLog` has)."""

    def settle(self, now: float) -> None:
        """Does nothing."""

    def write(self, data: bytes) -> None:
        """Takes a chunk; writes it up to its last line end (or all, if a line never ends)."""
        text = self._partial + data
        end = text.rfind(b"\n") + 1
        if not end and len(text) >= _LONGEST_LINE_BYTES:
            end = len(text)
        self._partial = text[end:]
        if end:
            self._append(text[:end])

    def close(self) -> None:
        """Writes the last, unfinished line and closes."""
        if self._partial:
            self._append(self._partial + b"\n")
            self._partial = b""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _append(self, lines: bytes) -> None:
        try:
            if self._descriptor < 0:
                self._open()
            if self._size and self._size + len(lines) > self._limit:
                os.close(self._descriptor)
                self._descriptor = -1
                rotate(self._path, self._generations)
                self._open()
            while lines:
                written = os.write(self._descriptor, lines)
                self._size += written
                lines = lines[written:]
        except OSError:
            return

    def _open(self) -> None:
        # No symbolic link is followed: the directory is ours alone, but a log is never a trap.
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._descriptor = os.open(self._path, flags, 0o600)
        self._size = os.fstat(self._descriptor).st_size


def rotate(path: Path, generations: int) -> None:
    """Makes ``path`` the first older generation, the first the second …; the oldest goes."""
    for number in range(generations - 1, 0, -1):
        newer = _generation(path, number - 1)
        if newer.exists():
            newer.replace(_generation(path, number))


def trim(path: Path, *, limit_bytes: int = LIMIT_BYTES) -> bool:
    """Empties a log that another process appends to (``O_APPEND``), once it is too large.

    What was in it is kept as ``path`` + ``.1``; a line that comes in between is lost. Returns
    whether it did. Raises ``OSError``.
    """
    try:
        if path.stat().st_size <= limit_bytes:
            return False
    except FileNotFoundError:
        return False
    older = _generation(path, 1)
    older.touch(mode=0o600)
    older.write_bytes(path.read_bytes())
    os.truncate(path, 0)
    return True


def _generation(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}") if number else path
