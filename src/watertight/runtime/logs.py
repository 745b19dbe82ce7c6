"""Follows the log files of all processes and prints them, prefixed and coloured by service."""

import asyncio
import os
import re
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

_COLOURS = ("cyan", "green", "yellow", "magenta", "blue", "red")
_STYLING = re.compile(r"\x1b\[[0-9;:]*m")  # ECMA-48 SGR
_POLL_SECONDS = 0.1
_CHUNK_BYTES = 256 * 1024


class LogFollower:
    """Prints what is appended to ``*.log`` in a directory from the moment it is made.

    A file that is rotated is read to its end first. What an app prints is data: control characters
    are shown, never obeyed by the terminal.
    """

    def __init__(self, directory: Path, console: Console, *, processes: Sequence[str]) -> None:
        """``processes``: which to show, such as ``("app",)``."""
        self._directory = directory
        self._console = console
        self._processes = frozenset(processes)
        self._files: dict[str, _Tail] = {}
        for path in self._paths():
            self._files[path.name] = _Tail(path, at_end=True)

    async def run(self) -> None:
        """Follows until cancelled; prints what is left then."""
        try:
            while True:
                self.print_new()
                await asyncio.sleep(_POLL_SECONDS)
        finally:
            self.print_new()
            for tail in self._files.values():
                tail.close()
            self._files.clear()

    def print_new(self) -> None:
        """Prints all whole lines that were appended since the last time."""
        for path in self._paths():
            if path.name not in self._files:
                self._files[path.name] = _Tail(path, at_end=False)
            tail = self._files[path.name]
            service, process = path.name.removesuffix(".log").rsplit(".", 1)
            label = service if process == "app" else f"{service} {process}"
            for line in tail.lines():
                self._print(label, _COLOURS[hash_of(service) % len(_COLOURS)], line)

    def _print(self, label: str, colour: str, line: bytes) -> None:
        text = Text(f"{label:>16} │ ", style=colour)
        text.append(printable(line), style="default")
        self._console.print(text, soft_wrap=True)

    def _paths(self) -> list[Path]:
        found = self._directory.glob("*.log")
        return sorted(p for p in found if p.name.split(".")[-2] in self._processes)


def hash_of(name: str) -> int:
    """A small number that is the same in every run (``hash`` is not)."""
    return sum(name.encode())


def printable(line: bytes) -> str:
    """The line as text that cannot drive a terminal: colours go, other controls become U+FFFD."""
    text = _STYLING.sub("", line.decode("utf-8", "replace"))
    return "".join(c if c.isprintable() or c == "\t" else "\N{REPLACEMENT CHARACTER}" for c in text)


class _Tail:
    """One file, also across its rotation."""

    def __init__(self, path: Path, *, at_end: bool) -> None:
        self._path = path
        self._partial = b""
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        if at_end:
            os.lseek(self._descriptor, 0, os.SEEK_END)

    def lines(self) -> list[bytes]:
        data = self._partial + self._read()
        if self._rotated():
            data += self._read()  # what was written between the first read and the rotation
            self.close()
            self._descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
            data += self._read()
        *whole, self._partial = data.split(b"\n")
        return whole

    def close(self) -> None:
        os.close(self._descriptor)

    def _read(self) -> bytes:
        chunks = []
        while chunk := os.read(self._descriptor, _CHUNK_BYTES):
            chunks.append(chunk)
        return b"".join(chunks)

    def _rotated(self) -> bool:
        try:
            return os.fstat(self._descriptor).st_ino != self._path.stat().st_ino
        except FileNotFoundError:  # between the two steps of a rotation
            return False
