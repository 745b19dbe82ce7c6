"""Single values that only the gateway has; see :mod:`watertight.model.values`."""

import re
from typing import Any

from watertight.model import codes
from watertight.model.document import quoted
from watertight.model.nearest import did_you_mean, one_of
from watertight.model.values import Malformed, parse_duration, size_of

MAX_HEADER_BYTES = 256 << 10
ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:[1-9][0-9]{0,4})?")
"""RFC 6454 section 6.2; of web views too (``capacitor://localhost``)."""
_USUAL_PORTS = {("http", ":80"), ("https", ":443")}
_HEADER = re.compile(r"[A-Za-z0-9!#$&'^_`|~-]+")
"""RFC 9110 section 5.1, without what Envoy's or a browser's pattern could be."""
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


def parse_origin(value: Any) -> str:
    """``https://app.example``, as a browser writes it, or ``*``."""
    match = ORIGIN.fullmatch(value) if isinstance(value, str) else None
    if value != "*" and (match is None or (match[1], match[3]) in _USUAL_PORTS):
        raise Malformed(
            codes.BAD_ORIGIN,
            f"{quoted(value)} is not an origin as browsers write it.",
            "Write scheme, host and, if it is not the usual one, port: `https://app.example`; "
            'each origin by name, or `"*"` for every page.',
        )
    return str(value)


def parse_header_name(value: Any) -> str:
    """The name of a header, in lower case."""
    if not isinstance(value, str) or not _HEADER.fullmatch(value):
        raise Malformed(
            codes.BAD_TEXT,
            f"{quoted(value)} is not the name of a header.",
            "Each by its name: `x-request-id`.",
        )
    return value.lower()


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
