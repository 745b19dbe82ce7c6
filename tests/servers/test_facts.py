"""The difference between two sets of facts: all of it, in an order that a server can follow."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watertight.servers.facts import Change, Fact, difference, fact

ORDER = ("database", "role", "grant")
KEYS = st.tuples(st.sampled_from("abc"))
VALUES = st.sampled_from([(), (("login", "yes"),), (("login", "no"),)])
FACTS = st.dictionaries(st.tuples(st.sampled_from(ORDER), KEYS), VALUES).map(
    lambda found: frozenset(Fact(kind, key, value) for (kind, key), value in found.items())
)


@given(FACTS, FACTS)
def test_who_makes_all_changes_has_what_is_wanted(
    wanted: frozenset[Fact], found: frozenset[Fact]
) -> None:
    now = set(found)
    for change in difference(wanted, found, ORDER):
        if change.found is not None:
            now.remove(change.found)
        if change.wanted is not None:
            now.add(change.wanted)
    assert now == wanted


@given(FACTS)
def test_what_is_so_already_is_no_change(found: frozenset[Fact]) -> None:
    assert difference(found, found, ORDER) == ()


@given(FACTS, FACTS)
def test_what_goes_goes_first_and_the_last_made_first(
    wanted: frozenset[Fact], found: frozenset[Fact]
) -> None:
    changes = difference(wanted, found, ORDER)
    turns = [(not c.removes, ORDER.index(c.thing.kind) * (-1 if c.removes else 1)) for c in changes]
    assert turns == sorted(turns)


def test_a_change_says_what_is_wrong() -> None:
    was = fact("queue", ("jobs", "in"), durable=True, arguments={})
    must = fact("queue", ("jobs", "in"), durable=False, arguments={})
    assert Change(was, None).what == "queue jobs in is not declared"
    assert Change(None, must).what == "queue jobs in is missing"
    assert Change(was, must).what == "queue jobs in: durable is 'true' and not 'false'"
    more = fact("queue", ("jobs", "in"), durable=True)
    assert Change(was, more).what == "queue jobs in: arguments is '{}' and not set"
    assert Change(more, was).what == "queue jobs in: arguments is not set and not '{}'"


@pytest.mark.parametrize(
    ("wanted", "why"),
    [
        ([fact("view", ("a",))], "no order for view"),
        ([fact("role", ("a",)), fact("role", ("a",), login=True)], "two facts about one thing"),
    ],
)
def test_what_has_no_order_or_two_values_is_refused(wanted: list[Fact], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        difference(frozenset(wanted), frozenset(), ORDER)
