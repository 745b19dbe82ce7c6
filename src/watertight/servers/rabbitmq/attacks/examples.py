"""Routing keys for the attacker: some that a pattern covers, and some that it does not."""

from collections.abc import Iterator

from watertight.servers.rabbitmq.declaration import matches

STRANGER = "watertight-probe"


def example(pattern: str) -> str:
    """A routing key that a pattern covers."""
    words = [STRANGER if word in ("*", "#") else word for word in pattern.split(".")]
    return ".".join(words)


def near(patterns: tuple[str, ...]) -> Iterator[str]:
    """Routing keys that none of the patterns covers, though they look alike."""
    tried = [STRANGER]
    for pattern in patterns:
        key = example(pattern)
        tried += [f"{key}.{STRANGER}", f"x{key}", f"{key}x", key.upper(), f"{STRANGER}.{key}"]
        tried.append(f"{key}\n")
    for key in dict.fromkeys(tried):
        if not any(matches(pattern, key) for pattern in patterns):
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
