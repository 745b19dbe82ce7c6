"""What calls for another start of a program, and what does not."""

import pytest

import watertight.runtime.settled
from tests.runtime.test_child import WIRE
from watertight.runtime.child import Child
from watertight.runtime.settled import OWN, changed, comparable, digest, settled

RAN = settled("one", {"db": "a", "web": "b"})


def test_what_both_know_and_say_otherwise_is_named() -> None:
    assert changed(RAN, settled("one", {"db": "other", "web": "b"})) == ("db",)
    assert changed(RAN, settled("two", {"db": "a", "web": "b"})) == (OWN,)
    assert changed(RAN, RAN) == ()


def test_what_comes_or_goes_starts_nothing_anew() -> None:
    assert changed(RAN, settled("one", {"db": "a", "web": "b", "more": "c"})) == ()
    assert changed(RAN, settled("one", {"db": "a"})) == ()


def test_what_another_version_told_is_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watertight.runtime.settled, "__version__", "0.0.0")
    assert not comparable(RAN, settled("one", {}))
    assert not comparable({}, RAN)


def test_a_digest_is_of_what_is_said_and_not_of_its_order() -> None:
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})


def test_an_init_tells_what_runs_was_started_with() -> None:
    """Not what it would be started with now; that no program sees it as a setting of its own."""
    child = Child({**WIRE, "settled": {"db": "a"}})
    child.started(7, 0.0)
    child.executed()
    child.wire = {**WIRE, "settled": {"db": "b"}}
    told = child.status(1.0)
    assert (told["settled"], told["outdated"]) == ({"db": "a"}, [])
    child.ended("exit status 1", 2.0)
    child.started(8, 3.0)
    assert child.status(4.0)["settled"] == {"db": "b"}
