"""Subjects: their syntax, and which of two covers which (NATS documentation, "Subject-Based
Messaging"). ``*`` stands for one token, a final ``>`` for one or more.
"""

import re
from collections.abc import Iterable
from itertools import zip_longest
from typing import Any

from watertight.model import codes
from watertight.model.document import quoted
from watertight.model.values import Malformed
from watertight.servers.nats.buckets import KEYS, OBJECTS, stream_of

MAX_LENGTH = 255
"""Characters. The protocol line that carries a subject may have 4096 bytes (max_control_line)."""
MAX_TOKENS = 32
"""Of a subject that somebody subscribes to: each costs the server memory of its own (40 kB for a
subscription of 128, where one of 8 has 3)."""
_TOKEN = re.compile(r"[A-Za-z0-9_/:=+@~-]+")


def parse_subject(value: Any) -> str:
    """A subject or pattern that may be granted; raises :class:`Malformed`.

    The first token is never a wildcard: ``_INBOX`` (other services' replies) and ``$JS`` (the
    administration of JetStream) are first tokens too, and a wildcard would take them in.
    """
    if not isinstance(value, str) or not value or len(value) > MAX_LENGTH:
        raise _bad(
            f"A subject is text of 1 to {MAX_LENGTH} characters, not {quoted(value)}.",
            "For example `orders.placed`.",
        )
    tokens = value.split(".")
    if len(tokens) > MAX_TOKENS:
        raise _bad(
            f"{quoted(value)} has {len(tokens)} tokens, and {MAX_TOKENS} are allowed.",
            "Put fewer dots into it.",
        )
    if tokens[0] in ("*", ">"):
        raise _bad(
            f"{quoted(value)} starts with a wildcard, so it would take in every inbox and the "
            "administration of JetStream.",
            "Name the first token: `orders.>`.",
        )
    if tokens[0].startswith(("$", "_")) and stream_of(value) is None:
        raise _bad(
            f"{quoted(value)} is a subject of the server's own, or an inbox.",
            "Every service has an inbox of its own without a grant; streams are granted by "
            "`consume`; of a bucket, name it and a key: `$KV.settings.color`.",
        )
    for place, part in enumerate(tokens):
        if not place and part in (KEYS, OBJECTS):
            continue
        last = place == len(tokens) - 1
        if part == "*" or (part == ">" and last) or _TOKEN.fullmatch(part):
            continue
        raise _bad(f"{quoted(value)} is not a subject: {_why(part)}.", "For example `orders.*`.")
    return value


def _bad(message: str, remedy: str) -> Malformed:
    return Malformed(codes.RESOURCE_GRANT, message, remedy)


def _why(part: str) -> str:
    if not part:
        return "a token is empty"
    if part == ">":
        return "`>` stands only at the end"
    if "*" in part or ">" in part:
        return f"a wildcard stands alone between two dots, unlike in {quoted(part)}"
    return f"{quoted(part)} holds what no token may (letters, digits and `_/:=+@~-` are fine)"


def covers(wide: str, narrow: str) -> bool:
    """Whether every subject that ``narrow`` matches, ``wide`` matches too."""
    for ours, theirs in zip_longest(wide.split("."), narrow.split(".")):
        if ours == ">":
            return theirs is not None
        if ours is None or theirs is None or theirs == ">":
            return False
        if ours not in ("*", theirs):
            return False
    return True


def overlap(one: str, other: str) -> bool:
    """Whether some subject matches both."""
    for ours, theirs in zip_longest(one.split("."), other.split(".")):
        if ours is None or theirs is None:
            return False
        if ">" in (ours, theirs):
            return True
        if ours != theirs and "*" not in (ours, theirs):
            return False
    return True


def widest(subjects: Iterable[str]) -> tuple[str, ...]:
    """Those that no other covers, each once."""
    each = tuple(dict.fromkeys(subjects))
    return tuple(s for s in each if not any(w != s and covers(w, s) for w in each))


def crossing(subjects: Iterable[str]) -> tuple[str, str] | None:
    """Two that overlap of which neither covers the other (``a.*.c``, ``a.b.*``), or None."""
    each = widest(subjects)
    pairs = ((a, b) for n, a in enumerate(each) for b in each[n + 1 :])
    return next(((a, b) for a, b in pairs if overlap(a, b)), None)


def common(one: str, other: str) -> str:
    """The pattern of what matches both; they overlap."""
    tokens: list[str] = []
    ours, theirs = one.split("."), other.split(".")
    for place, (left, right) in enumerate(zip(ours, theirs, strict=False)):
        if left == ">" or right == ">":
            return ".".join([*tokens, *(theirs if left == ">" else ours)[place:]])
        tokens.append(right if left == "*" else left)
    return ".".join(tokens)
