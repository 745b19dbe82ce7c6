"""Where the control plane's own log goes: JSON lines in ``.watertight/logs/control.log``."""

import logging
import os
import sys
from pathlib import Path

import structlog

from watertight.runtime.files import own_directory

CONTROL_LOG = "control.log"


def log_warnings_to_stderr() -> None:
    """Until told otherwise: results are alone on stdout, and only what is wrong is said."""
    structlog.configure(
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
    )


def log_to_file(state: Path) -> None:
    """Sends everything that is logged from now on there; the terminal is for people."""
    logs = own_directory(own_directory(state) / "logs")
    descriptor = os.open(logs / CONTROL_LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    file = os.fdopen(descriptor, "a", encoding="utf-8", buffering=1)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.dict_tracebacks,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.WriteLoggerFactory(file),
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
    )
