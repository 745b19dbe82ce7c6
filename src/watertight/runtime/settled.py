"""What is settled when a program starts, and so calls for another start where it changes.

As digests by part: what the program is itself (its own), and what it is told of each thing that it
may use. Its init remembers those of what runs, so whoever takes a system over asks what runs, and
need not know what happened before. A part that comes or goes is no reason: a program that may use
one thing more does well without knowing of it.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from watertight import __version__

OWN = "its own"
"""The part that is the program's own; nothing that is declared has a space in its name."""
_BY = "settled by"
"""Whose digests they are: another version of ours may tell a program the same in other words."""


def digest(*facts: Any) -> str:
    """Of facts in JSON's terms, and what has a ``str`` of its own."""
    text = json.dumps(facts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def settled(own: str, told: Mapping[str, str]) -> dict[str, str]:
    """By part: the digest of what the program is, and of what it is ``told`` of others."""
    return {**told, OWN: own, _BY: __version__}


def comparable(ran: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    """Whether the same version made both; an init of an earlier one says nothing at all."""
    return ran.get(_BY) == wanted.get(_BY)


def changed(ran: Mapping[str, str], wanted: Mapping[str, str]) -> tuple[str, ...]:
    """The parts in which what runs is not what is wanted, of those that both know."""
    return tuple(
        part for part in wanted if part in ran and part != _BY and ran[part] != wanted[part]
    )
