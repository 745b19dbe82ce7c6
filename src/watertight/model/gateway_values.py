"""Single values that only the gateway has; see :mod:`watertight.model.values`."""

from typing import Any

from watertight.model import codes
from watertight.model.document import quoted
from watertight.model.nearest import did_you_mean, one_of
from watertight.model.values import Malformed, parse_duration, size_of

MAX_HEADER_BYTES = 256 << 10
HOSTS_SEEN = {"public": True, "service": False}


def parse_route_timeout(value: Any) -> float | None:
    """A duration, or ``none``."""
    return None if value == "none" else parse_duration(value)


def parse_host_seen(value: Any) -> bool:
    """``public`` (True: the host that the client wrote) or ``service``."""
    if not isinstance(value, str) or value not in HOSTS_SEEN:
        raise Malformed(
            codes.BAD_CHOICE,
            f"The host that a service sees is {one_of(HOSTS_SEEN)}, not {quoted(value)}.",
            did_you_mean(str(value), HOSTS_SEEN),
        )
    return HOSTS_SEEN[value]


def parse_header_size(value: Any) -> int:
    """``32KiB`` → bytes, a whole number of KiB."""
    size = size_of(value)
    if not 1 << 10 <= size <= MAX_HEADER_BYTES or size % (1 << 10):
        raise Malformed(
            codes.BAD_SIZE,
            f"{quoted(value)} is not a size of headers: whole KiB, from `1KiB` to `256KiB`.",
            "Write a whole number and `KiB`: `64KiB`.",
        )
    return size
