"""How patterns of topics are read, by who sets the rights and by who attacks them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watertight.servers.mosquitto.attacks.patterns import covered
from watertight.servers.mosquitto.declaration import covers

LEVELS = st.lists(st.sampled_from(["", "a", "b", "+", "$x"]), min_size=1, max_size=4)
PATTERNS = st.tuples(LEVELS, st.booleans()).map(
    lambda p: "/".join([*p[0], *(["#"] if p[1] else [])])
)


@pytest.mark.parametrize(
    ("pattern", "asked", "whole"),
    [
        ("orders/+", "orders/7", True),
        ("orders/+", "orders/7/paid", False),
        ("orders/+", "orders/#", False),
        ("orders/#", "orders", True),
        ("orders/#", "orders/7/paid", True),
        ("orders/#", "ordersx", False),
        ("#", "anything/at/all", True),
        ("#", "$SYS/broker", False),
        ("+/a", "$SYS/a", False),
    ],
)
def test_patterns_are_read_as_mqtt_reads_them(pattern: str, asked: str, *, whole: bool) -> None:
    assert covers(pattern, asked) is whole
    assert covered([pattern], asked) is whole


@given(PATTERNS, PATTERNS)
def test_both_readings_agree(pattern: str, asked: str) -> None:
    assert covers(pattern, asked) is covered([pattern], asked)
