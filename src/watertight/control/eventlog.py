"""The control plane's own log: JSON lines within bounds, whatever callers make it say.

Each kind of event has a share; what is above is counted, and the count stands in the next line of
that kind, or in a line of its own (:meth:`EventLog.settle`) if none comes.
"""

import logging
import time
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import structlog
from structlog.tracebacks import ExceptionDictTransformer

from watertight.buckets import Clock, TokenBucket
from watertight.runtime.logfile import RotatingLog

BURST_OF_A_KIND, PER_SECOND_OF_A_KIND = 50, 1.0
FIELD_CHARACTERS = 2048
_MOST_FRAMES = 20


class EventLog:
    """What structlog writes to, and the share of each kind of event."""

    def __init__(self, path: Path, now: Clock = time.monotonic) -> None:
        self._now = now
        self._file = RotatingLog(path)
        self._shares: dict[str, TokenBucket] = {}
        self._dropped: dict[str, int] = {}

    def processors(self) -> list[Any]:
        """For ``structlog.configure``. Tracebacks come without local variables: those are keys."""
        tracebacks = ExceptionDictTransformer(show_locals=False, max_frames=_MOST_FRAMES)
        return [
            self._hold_to_its_share,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.ExceptionRenderer(tracebacks),
            structlog.processors.JSONRenderer(default=str),
        ]

    def write(self, text: str) -> None:
        """Part of a file, as structlog wants one."""
        self._file.write(text.encode())

    def flush(self) -> None:
        """Nothing is held back."""

    def settle(self) -> None:
        """Tells what was dropped of events that have come to rest."""
        for event in [e for e in self._dropped if self._shares[e].full]:
            logger = structlog.get_logger(__name__)
            logger.warning("events_dropped", of=event, dropped=self._dropped.pop(event))

    def _hold_to_its_share(
        self, _logger: object, _method: str, event: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        # Events are named in the code: nobody outside can make up new ones.
        name = str(event.get("event"))
        share = self._shares.setdefault(
            name, TokenBucket(BURST_OF_A_KIND, PER_SECOND_OF_A_KIND, self._now)
        )
        if not share.take():
            self._dropped[name] = self._dropped.get(name, 0) + 1
            raise structlog.DropEvent
        if dropped := self._dropped.pop(name, 0):
            event["dropped_before"] = dropped
        for key, value in event.items():
            if isinstance(value, str) and len(value) > FIELD_CHARACTERS:
                event[key] = value[: FIELD_CHARACTERS - 1] + "…"
        return event


class LibrarySays(logging.Handler):
    """What libraries log by themselves, gRPC of calls that broke off: under the same share."""

    def emit(self, record: logging.LogRecord) -> None:
        """See ``logging.Handler``."""
        error = record.exc_info[1] if record.exc_info else None
        structlog.get_logger(__name__).warning(
            "library_said",
            library=record.name,
            reason=record.getMessage(),
            error=type(error).__name__ if error else None,
        )
