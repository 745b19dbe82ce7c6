"""Which weakenings are tried at once by `make test`, where each has a whole proof of its own.

Each alone is tried by `make test-all`.
"""

from collections.abc import Collection, Iterator, Sequence
from typing import Protocol, TypeVar


class Weakening(Protocol):
    """One thing that is made worse, and the probes that must say so."""

    @property
    def name(self) -> str: ...
    @property
    def breaks(self) -> frozenset[str]: ...
    @property
    def channels(self) -> tuple[str, ...]: ...


W = TypeVar("W", bound=Weakening)


def at_once(weakenings: Sequence[W], alone: Collection[str]) -> Iterator[Sequence[W]]:
    """Groups of those that break different probes of the same channels, in their order.

    So whatever a group's proof turns red is still said of one of them. ``alone``: the names of
    those that change what others break, too.
    """
    left = list(weakenings)
    while left:
        group = [left.pop(0)]
        if group[0].name not in alone:
            for one in list(left):
                apart = one.name in alone or one.channels != group[0].channels
                if not apart and not any(one.breaks & other.breaks for other in group):
                    group.append(one)
                    left.remove(one)
        yield group
