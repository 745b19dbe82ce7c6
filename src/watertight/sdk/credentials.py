"""The files of our own SVID, as they are now: loaded when they change, good ones kept.

The directory that we are told is a link, swapped at each rotation. It is resolved once and then
all is read from where it led, so that a certificate never meets another's key. A set that does not
load (or is not there) leaves the last good one in use: an old SVID beats none.
"""

import logging
import os
import ssl
import threading
from dataclasses import dataclass
from pathlib import Path

from watertight.sdk.endpoints import Endpoint
from watertight.sdk.errors import CredentialsUnusable
from watertight.sdk.peer import PeerContext

log = logging.getLogger("watertight.sdk")

_FILES = ("certificate.pem", "private_key.pem", "bundle.pem")
_ATTEMPTS = 3
"""Only if the files change twice while they are read does the set that we read from vanish."""
_Version = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class CredentialSet:
    """One SVID with its bundle, loaded."""

    directory: Path
    """Where its files are: no link, so they do not change."""
    context: PeerContext
    """For a TLS handshake with exactly these files."""


class Credentials:
    """The present credential set for one channel. May be shared by threads."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._link = endpoint.credentials
        self._server = endpoint.spiffe_id
        self._lock = threading.Lock()
        self._good: CredentialSet | None = None
        self._seen: tuple[Path, _Version] | None = None
        self._warned = ""

    def current(self) -> CredentialSet:
        """The newest set that is usable. Raises :class:`CredentialsUnusable` if none ever was.

        Cheap while nothing changes (a link is read and three files are looked at).
        """
        with self._lock:
            try:
                self._look()
            except (OSError, ssl.SSLError) as error:
                if self._good is None:
                    raise self._unusable(error) from error
                self._warn(str(error))
            if self._good is None:
                raise self._unusable(None)
            return self._good

    def _look(self) -> None:
        for remaining in reversed(range(_ATTEMPTS)):
            try:
                directory = self._link.resolve(strict=True)
                seen = directory, _version(directory)
                if seen == self._seen:
                    return
                context = PeerContext.load(directory, self._server)
            except FileNotFoundError:
                if not remaining:
                    raise
            except ssl.SSLError:
                # Said once; it is looked at again when it changes.
                self._seen = seen
                raise
            else:
                self._seen, self._good = seen, CredentialSet(directory, context)
                return

    def _warn(self, reason: str) -> None:
        if reason != self._warned:
            log.warning(
                "The new credential files in %s cannot be used (%s); the last good ones stay.",
                self._link,
                reason,
            )
        self._warned = reason

    def _unusable(self, error: Exception | None) -> CredentialsUnusable:
        reason = f" ({error})" if error else ""
        return CredentialsUnusable(
            f"The credential files in {self._link} cannot be used{reason}.",
            remedy="`watertight status` says whether this service has an SVID.",
        )


def _version(directory: Path) -> _Version:
    found = [os.stat(directory / name) for name in _FILES]  # noqa: PTH116 - half the time of Path
    return tuple((file.st_mtime_ns, file.st_ino) for file in found)
