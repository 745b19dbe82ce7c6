"""Exchanges and routing keys for the attacker: some that a grant covers, and some that it does not.

What a grant means is read here once more, and not taken from what sets it: an error there would
else be believed here, too.
"""

import re
from collections.abc import Iterator

from watertight.servers.rabbitmq.declaration import SEND, Grants

STRANGER = "watertight-probe"


def example(pattern: str) -> str:
    """A routing key that a pattern covers."""
    words = [STRANGER if word in ("*", "#") else word for word in pattern.split(".")]
    return ".".join(words)


def may_publish_to(granted: Grants) -> tuple[str, ...]:
    """The exchanges by which a service may send anything."""
    return tuple(granted.publish) + tuple(SEND + queue for queue in granted.send)


def covered(patterns: tuple[str, ...], key: str) -> bool:
    """Whether one of the patterns covers a key (AMQP 0-9-1, section 3.1.3.3)."""
    return any(re.fullmatch(_expression(pattern), key, re.DOTALL) for pattern in patterns)


def _expression(pattern: str) -> str:
    """``#`` stands last, if at all, and is any number of words, with the dot before them."""
    if pattern == "#":
        return ".*"
    head = pattern.removesuffix(".#")
    words = ("[^.]*" if word == "*" else re.escape(word) for word in head.split("."))
    return r"\.".join(words) + (r"(\..*)?" if head != pattern else "")


def near(patterns: tuple[str, ...]) -> Iterator[str]:
    """Routing keys that none of the patterns covers, though they look alike."""
    tried = [STRANGER]
    for pattern in patterns:
        key = example(pattern)
        tried += [f"{key}.{STRANGER}", f"x{key}", f"{key}x", key.upper(), f"{STRANGER}.{key}"]
        tried.append(f"{key}\n")
    for key in dict.fromkeys(tried):
        if not covered(patterns, key):
            yield key


def overlap(one: str, other: str) -> bool:
    """Whether some routing key is covered by both patterns."""
    return _overlap(one.split("."), other.split("."))


def _overlap(one: list[str], other: list[str]) -> bool:
    if not one or not other:
        return not one + other or "#" in (one + other)[:1]
    if one[0] == "#" or other[0] == "#":
        return True  # it stands last: whatever is left of the other is covered
    alike = one[0] == other[0] or "*" in (one[0], other[0])
    return alike and _overlap(one[1:], other[1:])
