"""A proxy's access log, which strangers write: bounded lines, a bounded rate, a bounded size.

Good requests are all kept. Of refused and failed ones each client (at a sidecar, each door) may
write so many, and all of them together; the rest is counted, and the count is written in their
place. So a flood can neither fill the disk nor wash the log clean of what others did.
"""

import json
import time
from pathlib import Path
from typing import Any

from watertight.buckets import Clock, TokenBucket
from watertight.runtime.logfile import LIMIT_BYTES, RotatingLog

GENERATIONS = 4
FIELD_CHARACTERS = 1024
LONGEST_LINE_BYTES = 32 * 1024
BURST_OF_ONE, PER_SECOND_OF_ONE = 200, 5.0
BURST_OF_ALL, PER_SECOND_OF_ALL = 2_000, 50.0
MOST_CLIENTS = 4_096
"""Whom we know at once; further ones share one bucket, so that many addresses win nothing."""
TOLD_EVERY_SECONDS = 5.0
_FIRST_ERROR_STATUS = 400
_OTHERS = ""


class AccessLog:
    """Takes what a proxy writes; keeps it in ``path`` and its older generations."""

    def __init__(
        self, path: Path, *, limit_bytes: int = LIMIT_BYTES, now: Clock = time.monotonic
    ) -> None:
        self._log = RotatingLog(path, limit_bytes=limit_bytes, generations=GENERATIONS)
        self._now = now
        self._partial = b""
        self._skipping = False
        """Within a line that is too long to keep."""
        self._all = TokenBucket(BURST_OF_ALL, PER_SECOND_OF_ALL, now)
        self._clients: dict[str, TokenBucket] = {}
        self._dropped = 0
        self.due: float | None = None
        """When the number of lines that were dropped is to be told (:meth:`settle`)."""

    def write(self, data: bytes) -> None:
        """Takes a chunk; never raises."""
        *lines, self._partial = (self._partial + data).split(b"\n")
        now = self._now()
        for line in lines:
            if self._skipping:
                self._skipping = False
            elif line:
                self._take(line, now)
        if len(self._partial) > LONGEST_LINE_BYTES:
            if not self._skipping:
                self._drop(now)
            self._partial, self._skipping = b"", True
        self.settle(now)

    def settle(self, now: float) -> None:
        """Tells how much was dropped, once it is due."""
        if self.due is None or now < self.due:
            return
        # As Envoy writes it; `datetime` would cost each init half a megabyte.
        at = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())
        self._append({"time": at, "dropped": self._dropped, "why": "more than the log takes"})
        self._dropped, self.due = 0, None

    def close(self) -> None:
        """Writes what is left."""
        if self.due is not None:
            self.settle(self.due)
        self._log.close()

    def _take(self, line: bytes, now: float) -> None:
        try:
            entry = json.loads(line)
            if not isinstance(entry, dict):
                raise TypeError
        except (ValueError, TypeError, RecursionError):
            # Not from an access logger: whoever took the proxy over may write anything.
            entry = {"unreadable": line.decode(errors="replace")}
        if _is_good(entry) or self._affords(entry):
            self._append(entry)
        else:
            self._drop(now)

    def _affords(self, entry: dict[str, Any]) -> bool:
        """Of one client's share first, so that what is refused it costs the others nothing."""
        client = self._client(str(entry.get("client") or entry.get("at") or _OTHERS))
        return self._all.left() >= 1 and client.take() and self._all.take()

    def _client(self, name: str) -> TokenBucket:
        if name not in self._clients:
            if len(self._clients) >= MOST_CLIENTS:
                self._clients = {n: b for n, b in self._clients.items() if not b.full}
            if len(self._clients) >= MOST_CLIENTS:
                name = _OTHERS
            bucket = TokenBucket(BURST_OF_ONE, PER_SECOND_OF_ONE, self._now)
            self._clients.setdefault(name, bucket)
        return self._clients[name]

    def _drop(self, now: float) -> None:
        self._dropped += 1
        if self.due is None:
            self.due = now + TOLD_EVERY_SECONDS

    def _append(self, entry: dict[str, Any]) -> None:
        bounded = {key: _bounded(value) for key, value in entry.items()}
        self._log.write(json.dumps(bounded, separators=(",", ":")).encode() + b"\n")


def _is_good(entry: dict[str, Any]) -> bool:
    """An answer below 400, with nothing wrong on the way."""
    status, flags = entry.get("status"), entry.get("flags")
    return isinstance(status, int) and 0 < status < _FIRST_ERROR_STATUS and flags in (None, "-", "")


def _bounded(value: object) -> object:
    if value is None or isinstance(value, int | float):
        return value
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) < FIELD_CHARACTERS else text[: FIELD_CHARACTERS - 1] + "…"
