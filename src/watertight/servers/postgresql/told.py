"""How much of what services do is told at once: they choose how many things they make. Pure."""

from collections.abc import Iterable, Sequence

LISTED = 5
LINES = 20
LONGEST_LINE = 300
"""A name has at most 63 bytes, but a function has many arguments."""


def some(things: Iterable[str]) -> str:
    """The first few, and how many more there are."""
    every = sorted(things)
    more = f" and {len(every) - LISTED} more" if len(every) > LISTED else ""
    return ", ".join(map(cut, every[:LISTED])) + more


def bounded(lines: Sequence[str], most: int = LINES) -> list[str]:
    """As many lines as ``most``, the last of which says how many there are besides."""
    if len(lines) <= most:
        return [cut(line) for line in lines]
    return [*(cut(line) for line in lines[: most - 1]), f"… and {len(lines) - most + 1} more"]


def cut(line: str) -> str:
    """As much of it as is told."""
    return line if len(line) <= LONGEST_LINE else f"{line[:LONGEST_LINE]} …"
