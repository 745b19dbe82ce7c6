"""When a process is started again: time is told to it, so nothing here waits."""

from watertight.runtime.child import (
    FIRST_DELAY_SECONDS,
    LONGEST_DELAY_SECONDS,
    STEADY_SECONDS,
    Child,
)
from watertight.runtime.pod_wire import ProcessWire

WIRE: ProcessWire = {
    "name": "app",
    "argv": ["/bin/true"],
    "environment": {},
    "directory": "/",
    "umask": 0o022,
    "stop_signal": 15,
    "view": [],
    "credentials": None,
    "nested_user_namespace": False,
    "low_ports": False,
    "first": False,
    "confined": False,
    "access_log": "",
    "limits": None,
    "process_bytes": None,
    "process_most_bytes": None,
    "processes_bytes": None,
    "spared": [],
    "groups": [],
    "settled": {},
    "log": "/dev/null",
}


def crash(child: Child, now: float, lived: float) -> float:
    """Starts it at ``now``, ends it after ``lived`` seconds; returns the delay that follows."""
    child.started(7, now)
    child.executed()
    child.ended("exit status 1", now + lived)
    assert child.due is not None
    return round(child.due - now - lived, 6)


def test_delays_double_up_to_a_limit() -> None:
    """A crash loop costs ever less."""
    child = Child(WIRE)
    delays = [crash(child, 100.0 * n, 0.5) for n in range(10)]
    assert delays[:3] == [FIRST_DELAY_SECONDS * 2**n for n in range(3)]
    assert delays[-1] == LONGEST_DELAY_SECONDS
    assert child.restarts == 10


def test_a_long_life_makes_good() -> None:
    """After a steady while the first delay counts again."""
    child = Child(WIRE)
    for n in range(5):
        crash(child, 100.0 * n, 0.5)
    assert crash(child, 1000.0, STEADY_SECONDS) == FIRST_DELAY_SECONDS


def test_what_was_asked_to_end_is_not_started_again() -> None:
    """And is killed when its time is up."""
    child = Child(WIRE)
    child.started(7, 1.0)
    child.executed()
    child.stopping(6.0)
    assert child.due == 6.0
    child.ended("killed by SIGTERM", 2.0)
    status = child.status(3.0)
    assert (status["state"], status["pid"], status["restarts"]) == ("stopped", None, 0)


def test_a_start_that_somebody_asked_for_and_failed_is_not_tried_again() -> None:
    """A start of our own is: the program may come back (a deployment swaps it)."""
    child = Child(WIRE)
    child.asked = True
    child.started(7, 1.0)
    child.refused({"error": "no such file", "remedy": ""})
    child.ended("exit status 127", 1.1)
    assert (child.state, child.last_exit) == ("stopped", "no such file")
    child.started(8, 2.0)
    child.refused({"error": "no such file", "remedy": ""})
    child.ended("exit status 127", 2.1)
    assert child.state == "backing-off"


def test_status_tells_the_time_it_is_up() -> None:
    """Seconds since its start, none when it is not."""
    child = Child(WIRE)
    assert child.status(5.0)["up_seconds"] == 0.0
    child.started(7, 1.0)
    assert child.status(5.0)["up_seconds"] == 4.0


def test_it_is_outdated_while_a_start_would_give_it_something_else() -> None:
    """Names only: a variable may hold a secret."""
    child = Child({**WIRE, "environment": {"A": "1", "B": "secret"}})
    assert child.status(0.0)["outdated"] == []
    child.started(7, 1.0)
    assert child.status(1.0)["outdated"] == []
    child.wire = {**WIRE, "environment": {"A": "1", "C": "3"}, "argv": ["/bin/false"]}
    assert child.status(1.0)["outdated"] == ["B", "C", "argv"]
    child.wire = {**WIRE, "environment": {"B": "secret", "A": "1"}}
    assert child.status(1.0)["outdated"] == []
    child.wire = {**WIRE, "umask": 0}
    child.ended("exit status 1", 2.0)
    assert child.status(2.0)["outdated"] == []
    child.started(8, 3.0)
    assert child.status(3.0)["outdated"] == []
