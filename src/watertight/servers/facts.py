"""A server is a set of facts: what is so there, what must be, and the difference. Pure.

A role exists, a queue has these arguments, a user may write these topics: each is one
:class:`Fact`. What the declaration wants is a set of them, and what a server has is one; ``apply``,
``drift``, ``grant`` and a dry run are one difference between the two (``converge``).
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, order=True, slots=True)
class Fact:
    """One thing at a server, and what is so of it."""

    kind: str
    """A noun that a person reads: ``queue``, ``permissions of``."""
    key: tuple[str, ...]
    """What tells it from others of its kind."""
    value: tuple[tuple[str, str], ...] = ()
    """Name → what it is, as text; only what is compared."""

    @property
    def name(self) -> str:
        """``queue jobs parcels``."""
        return " ".join((self.kind, *filter(None, self.key)))


def fact(kind: str, key: Iterable[object], **value: Any) -> Fact:
    """A fact from values of any kind; what is no text is written as JSON."""
    texts = tuple((name, as_text(value[name])) for name in sorted(value))
    return Fact(kind, tuple(str(part) for part in key), texts)


def as_text(value: Any) -> str:
    """How a value stands in a fact."""
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


@dataclass(frozen=True, slots=True)
class Change:
    """One difference: what is there and what must be. One of the two may be nothing."""

    found: Fact | None
    wanted: Fact | None

    @property
    def thing(self) -> Fact:
        """What it is about."""
        if self.wanted is not None:
            return self.wanted
        if self.found is None:
            raise ValueError("a change of nothing")
        return self.found

    @property
    def removes(self) -> bool:
        """Whether something is there that nobody declared."""
        return self.wanted is None

    @property
    def what(self) -> str:
        """What is wrong, as ``drift`` and ``apply`` say it."""
        if self.wanted is None:
            return f"{self.thing.name} is not declared"
        if self.found is None:
            return f"{self.thing.name} is missing"
        return f"{self.thing.name}: {', '.join(_odd(self.found, self.wanted))}"


def _odd(found: Fact, wanted: Fact) -> Iterable[str]:
    is_, should = dict(found.value), dict(wanted.value)
    for name in sorted(is_.keys() | should.keys()):
        if is_.get(name) != should.get(name):
            has = "not set" if name not in is_ else repr(is_[name])
            wants = "set" if name not in should else repr(should[name])
            yield f"{name} is {has} and not {wants}"


def difference(
    wanted: frozenset[Fact], found: frozenset[Fact], order: Sequence[str]
) -> tuple[Change, ...]:
    """All that must change: first what goes, then what comes or becomes another.

    ``order``: kinds of fact as they come; they go in the reverse. Raises ValueError for a fact of a
    kind that it does not name, and for two of one key.
    """
    wanted_by, found_by = _by_key(wanted), _by_key(found)
    turn = {kind: number for number, kind in enumerate(order)}
    if unknown := {fact.kind for fact in (*wanted, *found)} - turn.keys():
        raise ValueError(f"no order for {', '.join(sorted(unknown))}")
    goes = [fact for key, fact in found_by.items() if key not in wanted_by]
    comes = [fact for key, fact in wanted_by.items() if found_by.get(key) != fact]
    return (
        *(Change(one, None) for one in sorted(goes, key=lambda f: (-turn[f.kind], f))),
        *(
            Change(found_by.get((one.kind, one.key)), one)
            for one in sorted(comes, key=lambda f: (turn[f.kind], f))
        ),
    )


def _by_key(facts: frozenset[Fact]) -> dict[tuple[str, tuple[str, ...]], Fact]:
    by_key = {(fact.kind, fact.key): fact for fact in facts}
    if len(by_key) != len(facts):
        raise ValueError("two facts about one thing")
    return by_key
