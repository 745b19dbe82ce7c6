"""The audit log of the authority: one JSON line for each issue, refusal and change. No secrets.

It is kept in generations, ``audit.jsonl``, ``audit.jsonl.1`` (the one before) and so on, of bounded
size and number: an authority that cannot write its audit log issues nothing, so nobody may be able
to fill it. The first line of each generation but the first holds the SHA-256 of the one before it,
as ``sha256sum`` prints it: what was cut out or changed later is found (:func:`broken_links`).
The space of a generation is set aside when it begins, so that a disk that a service has filled
with its own data does not keep the authority from issuing.
"""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from watertight.identity.clock import Clock
from watertight.identity.errors import IdentityError
from watertight.identity.files import (
    PRIVATE_FILE,
    make_private_directory,
    reserve,
    sync_directory,
)

FORMAT = "watertight.audit/1"
CONTINUED = "audit_continued"
GENERATION_BYTES = 8 * 1024 * 1024
GENERATIONS = 16
"""128 MiB in all. At the pace at which one service may be issued JWT-SVIDs that is a day; copy the
older generations elsewhere to keep them for longer."""
FIELD_CHARACTERS = 1024

Fact = str | float | bool | list[str] | None


_AUDIENCES_CHARACTERS = 256


def audiences(names: Sequence[str]) -> dict[str, Fact]:
    """The audiences of a token as facts: as they are, or their digest if they would be long."""
    if sum(map(len, names)) <= _AUDIENCES_CHARACTERS:
        return {"audiences": list(names)}
    digest = hashlib.sha256(json.dumps(list(names)).encode()).hexdigest()
    first = names[0][: _AUDIENCES_CHARACTERS // 2] + "…"
    return {"audiences": [first], "audiences_sha256": digest}


class AuditLog:
    """Appends to one file (0600). Lines are whole: each is one write to an O_APPEND descriptor.

    Several processes may hold the same log: each line, and each change of generation, is made
    under a lock (flock(2)).
    """

    def __init__(self, path: Path, now: Clock, *, generation_bytes: int = GENERATION_BYTES) -> None:
        """Opens the log. Raises ``IdentityError`` if it cannot."""
        self._path = path
        self._now = now
        self._limit = generation_bytes
        try:
            make_private_directory(path.parent)
            self._descriptor = self._open()
            reserve(self._descriptor, generation_bytes)
        except OSError as error:
            raise IdentityError(
                f"The audit log {path} cannot be opened: {error.strerror}.",
                remedy="Run as the user who founded the authority.",
            ) from None

    def record(self, event: str, **facts: Fact) -> None:
        """Writes one line. Raises ``IdentityError`` if it cannot: then nothing may be issued."""
        try:
            with self._locked():
                self._append(event, facts)
        except OSError as error:
            raise IdentityError(
                f"The audit log {self._path} cannot be written: {error.strerror or error}.",
                remedy="Nothing is issued that is not recorded; make room or mend the file.",
            ) from None

    def sync(self) -> None:
        """Makes everything recorded so far durable. Raises ``OSError``."""
        os.fsync(self._descriptor)

    def close(self) -> None:
        """Makes the log durable and lets go of it. A second call does nothing."""
        if self._descriptor >= 0:
            os.fsync(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1

    def _append(self, event: str, facts: dict[str, Fact]) -> None:
        data = self._line(event, facts)
        while (size := os.fstat(self._descriptor).st_size) and size + len(data) > self._limit:
            self._begin_generation()  # another holder may fill the next one before we have it
        if (
            not size and (older := _generation(self._path, 1)).exists()
        ):  # also after a crash between the two steps
            reserve(self._descriptor, self._limit)
            previous = self._line(CONTINUED, {"previous_sha256": _digest(older)})
            self._write_or_make_room(previous)
        self._write_or_make_room(data)

    def _write_or_make_room(self, data: bytes) -> None:
        """On a full disk the oldest generation goes, for the sake of what happens now."""
        while True:
            try:
                self._write(data)
            except OSError as error:
                if error.errno != errno.ENOSPC or not self._give_up_oldest():
                    raise
            else:
                return

    def _give_up_oldest(self) -> bool:
        for number in range(GENERATIONS - 1, 0, -1):
            oldest = _generation(self._path, number)
            if oldest.exists():
                oldest.unlink()
                return True
        return False

    def _line(self, event: str, facts: dict[str, Fact]) -> bytes:
        bounded = {name: _bounded(fact) for name, fact in facts.items()}
        line = {"format": FORMAT, "at": self._now().isoformat(), "event": event, **bounded}
        return json.dumps(line).encode() + b"\n"

    def _write(self, data: bytes) -> None:
        size = os.fstat(self._descriptor).st_size
        if os.write(self._descriptor, data) != len(data):
            os.ftruncate(self._descriptor, size)  # no half a line
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _begin_generation(self) -> None:
        os.fsync(self._descriptor)
        for number in range(GENERATIONS - 1, 0, -1):
            newer = _generation(self._path, number - 1)
            if newer.exists():
                newer.replace(_generation(self._path, number))
        self._hold_current()
        sync_directory(self._path.parent)

    def _hold_current(self) -> None:
        """Locks the file that the path names now; the one before is let go of."""
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        while not self._is_current():
            descriptor = self._open()
            os.close(self._descriptor)
            self._descriptor = descriptor
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        self._hold_current()
        try:
            yield
        finally:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def _is_current(self) -> bool:
        try:
            named = self._path.stat()
        except FileNotFoundError:
            return False
        held = os.fstat(self._descriptor)
        return (held.st_dev, held.st_ino) == (named.st_dev, named.st_ino)

    def _open(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, PRIVATE_FILE)


def broken_links(path: Path) -> tuple[Path, ...]:
    """The generations of the log at ``path`` that are not what the next one says they were.

    The oldest has nothing before it; that of the newest, which is still written, nobody knows.
    """
    broken = []
    number = 0
    while (older := _generation(path, number + 1)).exists():
        with _generation(path, number).open("rb") as file:
            first = file.readline()
        if _previous(first) != _digest(older):
            broken.append(older)
        number += 1
    return tuple(broken)


def _previous(line: bytes) -> str | None:
    try:
        entry = json.loads(line)
        return str(entry["previous_sha256"]) if entry["event"] == CONTINUED else None
    except (ValueError, KeyError, TypeError):
        return None


def _generation(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}") if number else path


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _bounded(fact: Fact) -> Fact:
    """A reason may quote what a caller wrote."""
    if isinstance(fact, str) and len(fact) > FIELD_CHARACTERS:
        return fact[: FIELD_CHARACTERS - 1] + "…"
    if isinstance(fact, list):
        return [str(_bounded(item)) for item in fact]
    return fact
