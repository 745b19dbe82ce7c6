"""The last lines that a process has said since it was started, as an error message shows them."""

import re
from pathlib import Path

from watertight.runtime.logs import printable

MOST_LINES = 12
_MOST_BYTES = 16 * 1024
_LONGEST_LINE = 200
_SAYS_WHY = re.compile(r"\S*(?:error|exception|panic|fatal|caused by)\b.*", re.IGNORECASE)
"""A line that is not indented, and begins so: ``Error: Cannot find module 'express'``."""


def mark(log: Path) -> int:
    """How long the log is: what a process says from now on stands behind it."""
    try:
        return log.stat().st_size
    except OSError:
        return 0


def last_words(log: Path, since: int) -> list[str]:
    """At most :data:`MOST_LINES` lines, oldest first; what is repeated at each start, once.

    Where these are a stack alone (Node, Java), the line before it that says what went wrong is
    the first of them.

    ``since``: from :func:`mark`. Of a log that was rotated since, what is there.
    """
    try:
        with log.open("rb") as file:
            end = file.seek(0, 2)
            begin = since if since <= end else 0
            file.seek(max(begin, end - _MOST_BYTES))
            data = file.read(_MOST_BYTES)
    except OSError:
        return []
    lines = [printable(line)[:_LONGEST_LINE] for line in data.splitlines() if line.strip()]
    said = _once(lines)
    shown, before = said[-MOST_LINES:], said[:-MOST_LINES]
    why = [line for line in before if _SAYS_WHY.match(line)]
    if why and not any(map(_SAYS_WHY.match, shown)):
        return [why[-1], "…", *shown[2:]]
    return shown


def _once(lines: list[str]) -> list[str]:
    """The end of a text that says the same again and again, said once."""
    for length in range(len(lines) // 2, 0, -1):
        if lines[-length:] == lines[-2 * length : -length]:
            return _once(lines[-length:])
    return lines
