"""One process at a time holds an authority's directory: the lock, the journal, the audit log."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from watertight.identity.audit import AuditLog
from watertight.identity.clock import Clock
from watertight.identity.errors import AuthorityBusy, IdentityError
from watertight.identity.files import PRIVATE_FILE, make_private_directory
from watertight.identity.journal import Journal

AUDIT_FILE = "audit.jsonl"
LOCK_FILE = "lock"


@dataclass(slots=True)
class Holding:
    """An authority's directory, held. The kernel lets go of it if the process dies."""

    journal: Journal
    audit: AuditLog
    now: Clock
    descriptor: int

    @classmethod
    def take(cls, directory: Path, now: Clock) -> Self:
        """Makes (0700) and takes the directory. Raises ``AuthorityBusy`` or ``IdentityError``."""
        try:
            make_private_directory(directory)
            descriptor = _locked(directory)
        except OSError as error:
            raise IdentityError(
                f"The authority's directory {directory} cannot be used: {error.strerror}.",
                remedy="Run as the user who founded it.",
            ) from None
        try:
            audit = AuditLog(directory / AUDIT_FILE, now)
        except IdentityError:
            os.close(descriptor)
            raise
        return cls(Journal(directory), audit, now, descriptor)

    def release(self) -> None:
        """Lets go. A second call does nothing."""
        if self.descriptor >= 0:
            self.audit.close()
            os.close(self.descriptor)
            self.descriptor = -1

    @contextlib.contextmanager
    def released_on_error(self) -> Iterator[None]:
        """Lets go if the body raises."""
        try:
            yield
        except BaseException:
            self.release()
            raise


def _locked(directory: Path) -> int:
    descriptor = os.open(directory / LOCK_FILE, os.O_RDWR | os.O_CREAT, PRIVATE_FILE)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise AuthorityBusy(
            f"Another process holds the authority in {directory}.",
            remedy="Stop it first, or ask it: `watertight status` talks to it.",
        ) from None
    return descriptor
