"""Callees start before their callers, and a circle does not stop anything."""

from hypothesis import given
from hypothesis import strategies as st

from watertight.control.order import Starting, start_order
from watertight.model.system import Channel, Service, System


def system(*edges: tuple[str, str], names: str = "abcdef") -> System:
    return System(
        "shop",
        {name: Service(name) for name in names},
        channels=tuple(Channel(source, target) for source, target in edges),
    )


def test_callees_come_first() -> None:
    order = start_order(system(("a", "b"), ("b", "c"), names="abc"))
    assert order == (("c",), ("b",), ("a",))


def test_services_that_do_not_depend_on_one_another_start_together() -> None:
    assert start_order(system(names="abc")) == (("a", "b", "c"),)


def test_a_circle_still_starts() -> None:
    order = start_order(system(("a", "b"), ("b", "a"), ("c", "a"), names="abc"))
    assert [name for wave in order for name in wave].index("c") > 0
    assert sorted(name for wave in order for name in wave) == ["a", "b", "c"]


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from("abcdef")), max_size=20))
def test_each_service_starts_exactly_once(edges: list[tuple[str, str]]) -> None:
    order = start_order(system(*(edge for edge in edges if edge[0] != edge[1])))
    assert sorted(name for wave in order for name in wave) == list("abcdef")


def test_who_calls_one_another_excuse_one_another_until_both_fail_by_themselves() -> None:
    starting = Starting(system(("a", "b"), ("b", "a"), ("c", "a")))
    with starting.waits("a"), starting.waits("b"):
        assert starting.excuses("a", 1)
        assert starting.excuses("a", 5), "b is not ready yet"
        assert not starting.excuses("b", 3), "a ends whatever b does"
        assert not starting.excuses("a", 6)
    assert not starting.excuses("c", 1)
