"""A proxy's access log, which strangers write: bounded lines, a bounded rate, a bounded size.

Good requests are all kept. Of refused and failed ones each client (at a sidecar, each door) may
write so many, and all of them together; the rest is counted, and the count is written in their
place. So a flood can neither fill the disk nor wash the log clean of what others did.
"""

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

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

Clock = Callable[[], float]


class _Bucket:
    """A token bucket."""

    __slots__ = ("_at", "_left")

    def __init__(self, burst: float, now: float) -> None:
        self._left, self._at = burst, now

    def refill(self, burst: float, per_second: float, now: float) -> float:
        """How much there is now."""
        self._left = min(burst, self._left + (now - self._at) * per_second)
        self._at = now
        return self._left

    def take(self) -> None:
        self._left -= 1


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
        self._all = _Bucket(BURST_OF_ALL, now())
        self._clients: dict[str, _Bucket] = {}
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
        at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
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
        if _is_good(entry) or self._affords(entry, now):
            self._append(entry)
        else:
            self._drop(now)

    def _affords(self, entry: dict[str, Any], now: float) -> bool:
        client = self._client(str(entry.get("client") or entry.get("at") or _OTHERS), now)
        ours = client.refill(BURST_OF_ONE, PER_SECOND_OF_ONE, now)
        everybodys = self._all.refill(BURST_OF_ALL, PER_SECOND_OF_ALL, now)
        if ours < 1 or everybodys < 1:
            return False
        client.take()
        self._all.take()
        return True

    def _client(self, name: str, now: float) -> _Bucket:
        if name not in self._clients:
            if len(self._clients) >= MOST_CLIENTS:
                self._forget_the_quiet(now)
            if len(self._clients) >= MOST_CLIENTS:
                name = _OTHERS
            self._clients.setdefault(name, _Bucket(BURST_OF_ONE, now))
        return self._clients[name]

    def _forget_the_quiet(self, now: float) -> None:
        self._clients = {
            name: bucket
            for name, bucket in self._clients.items()
            if bucket.refill(BURST_OF_ONE, PER_SECOND_OF_ONE, now) < BURST_OF_ONE
        }

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
