"""What ^C comes to, whatever a command is doing: one line, and the status of what was not done."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from watertight.errors import ExitCode


@contextmanager
def told_plainly() -> Iterator[None]:
    """Raises SystemExit in place of KeyboardInterrupt."""
    try:
        yield
    except BaseException as error:
        if not _is_interrupt(error):
            raise
        print("Interrupted.", file=sys.stderr)
        raise SystemExit(ExitCode.COULD_NOT) from None


def _is_interrupt(error: BaseException | None) -> bool:
    """Python itself wraps it in another error where a class is being made."""
    if isinstance(error, SystemExit):
        return False
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__
    return error is not None
