"""The time, as something that is passed in: every test of a year runs in a millisecond."""

import datetime as dt
from collections.abc import Callable
from typing import TypeAlias

Clock: TypeAlias = Callable[[], dt.datetime]
"""Returns now, aware and in UTC."""


def system_clock() -> dt.datetime:
    """The machine's own wall clock."""
    return dt.datetime.now(dt.UTC)


def seconds(number: float) -> dt.timedelta:
    """A duration."""
    return dt.timedelta(seconds=number)
