"""One thing that is made worse on a running server, and the probes that must say so."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

Files: TypeAlias = Mapping[str, str]
"""Name → text, in the server's directory."""


@dataclass(frozen=True)
class Weakening:
    """Among the probes that are tried, exactly ``breaks`` must break.

    Tried are those, and ``holds``, on ``channel``.
    """

    name: str
    by_hand: tuple[Any, ...] = ()
    """What is done at the running server; each of it ``Conformance.do`` understands."""
    breaks: frozenset[str] = frozenset()
    holds: frozenset[str] = frozenset()
    channel: str = ""
    """``SERVICE -> RESOURCE``; empty: the first of the declaration."""
    files: Callable[[Files], Files] | None = None
    """From the right files to others, with which the server is started again before that."""
    others: Literal["", "attack", "use"] = ""
    """Which other probes of the channel are tried, too, a few attempts of each: they must hold."""
