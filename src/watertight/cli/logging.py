"""Where the control plane's own log goes: JSON lines in ``.watertight/logs/control.log``."""

import logging
import sys
from collections.abc import Callable
from pathlib import Path

import structlog

from watertight.runtime.files import own_directory
from watertight.runtime.logfile import trim

CONTROL_LOG = "control.log"
UP_LOG = "up.log"
"""What a control plane without a terminal prints, its libraries included."""


def log_warnings_to_stderr() -> None:
    """Until told otherwise: results are alone on stdout, and only what is wrong is said."""
    structlog.configure(
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
    )


def log_to_file(state: Path) -> Callable[[], None]:
    """Sends everything that is logged from now on there; the terminal is for people.

    Call what it returns now and then: it keeps the logs of this process within their bounds.
    """
    from watertight.control.eventlog import EventLog, LibrarySays  # noqa: PLC0415

    logs = own_directory(own_directory(state) / "logs")
    events = EventLog(logs / CONTROL_LOG)
    structlog.configure(
        processors=events.processors(),
        logger_factory=structlog.WriteLoggerFactory(events),  # type: ignore[arg-type]
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
    )
    logging.basicConfig(handlers=[LibrarySays()], level=logging.WARNING)

    def tidy() -> None:
        events.settle()
        trim(logs / UP_LOG)

    return tidy
