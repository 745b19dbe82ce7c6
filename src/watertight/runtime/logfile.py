"""A log file that cannot fill the disk: whole lines, and one older generation beside it."""

import os
from pathlib import Path

LIMIT_BYTES = 8 * 1024 * 1024
_LONGEST_LINE_BYTES = 64 * 1024


class RotatingLog:
    """Appends what a process says to ``path``; the generation before is ``path`` + ``.1``.

    A full disk loses lines, never the process: writing never raises.
    """

    def __init__(self, path: Path, *, limit_bytes: int = LIMIT_BYTES) -> None:
        self._path = path
        self._older = path.with_name(path.name + ".1")
        self._limit = limit_bytes
        self._partial = b""
        self._descriptor = -1
        self._size = 0

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
            elif self._size and self._size + len(lines) > self._limit:
                os.close(self._descriptor)
                self._descriptor = -1
                self._path.replace(self._older)
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
