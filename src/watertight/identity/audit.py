"""The audit log of the authority: one JSON line for each issue, refusal and change. No secrets."""

import json
import os
from pathlib import Path

from watertight.identity.clock import Clock
from watertight.identity.errors import IdentityError
from watertight.identity.files import PRIVATE_FILE, make_private_directory

FORMAT = "watertight.audit/1"


class AuditLog:
    """Appends to one file (0600). Lines are whole: each is one write to an O_APPEND descriptor."""

    def __init__(self, path: Path, now: Clock) -> None:
        """Opens the log. Raises ``IdentityError`` if it cannot."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        self._path = path
        self._now = now
        try:
            make_private_directory(path.parent)
            self._descriptor = os.open(path, flags, PRIVATE_FILE)
        except OSError as error:
            raise IdentityError(
                f"The audit log {path} cannot be opened: {error.strerror}.",
                remedy="Run as the user who founded the authority.",
            ) from None

    def record(self, event: str, **facts: str | float | bool | list[str] | None) -> None:
        """Writes one line. Raises ``IdentityError`` if it cannot: then nothing may be issued."""
        line = {"format": FORMAT, "at": self._now().isoformat(), "event": event, **facts}
        data = json.dumps(line).encode() + b"\n"
        try:
            written = os.write(self._descriptor, data)
        except OSError as error:
            written, reason = 0, error.strerror or "unknown"
        else:
            reason = "the disk is full"
        if written != len(data):
            raise IdentityError(
                f"The audit log {self._path} cannot be written: {reason}.",
                remedy="Nothing is issued that is not recorded; make room or mend the file.",
            )

    def sync(self) -> None:
        """Makes everything recorded so far durable. Raises ``OSError``."""
        os.fsync(self._descriptor)

    def close(self) -> None:
        """Makes the log durable and lets go of it. A second call does nothing."""
        if self._descriptor >= 0:
            os.fsync(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1
