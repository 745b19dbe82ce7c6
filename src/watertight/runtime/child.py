"""One supervised process: whether it should run, whether it does, and when it is tried again.

Sans-I/O: the init (:mod:`watertight.runtime.pod_init`) tells it what happened and at what time.
"""

from typing import Any, Literal, cast

from watertight.runtime.pod_wire import ProcessStatus, ProcessWire

FIRST_DELAY_SECONDS = 0.1
LONGEST_DELAY_SECONDS = 5.0
STEADY_SECONDS = 10.0
"""Having run for as long, a process that ends starts again at the shortest delay."""

_NOT_SEEN = frozenset({"environment", "settled"})
"""Keys that the program itself sees nothing of as such."""

State = Literal["stopped", "starting", "running", "backing-off", "stopping"]


class Child:
    """Times are seconds of one monotonic clock."""

    def __init__(self, wire: ProcessWire) -> None:
        self.wire = wire
        """What it is started with the next time."""
        self._running: ProcessWire | None = None
        """What it was started with."""
        self.state: State = "stopped"
        self.pid: int | None = None
        self.restarts = 0
        self.last_exit: str | None = None
        self.due: float | None = None
        """When something must be done: start again (backing-off), or kill (stopping)."""
        self.refusal: dict[str, str] | None = None
        """Why its program could not be run, the last time."""
        self.asked = False
        """Somebody waits for this start; a later one is our own attempt."""
        self._since = 0.0
        self._delay = FIRST_DELAY_SECONDS

    def started(self, pid: int, now: float) -> None:
        """It was forked; whether its program runs is not known yet."""
        self.state, self.pid, self._since, self.due = "starting", pid, now, None
        self.refusal = None
        self._running = self.wire

    def executed(self) -> None:
        """Its program runs."""
        if self.state == "starting":
            self.state = "running"
        self.asked = False

    def refused(self, refusal: dict[str, str]) -> None:
        """Its program could not be run. Told to whoever asked; not tried again on our own then."""
        self.refusal = refusal
        if self.asked and self.state == "starting":
            self.state = "stopping"
        self.asked = False

    def stopping(self, kill_at: float) -> None:
        """It was asked to end, and is killed at ``kill_at``."""
        self.state, self.due = "stopping", kill_at

    def stop_trying(self) -> None:
        """It does not run and shall not."""
        self.state, self.pid, self.due = "stopped", None, None
        self._delay = FIRST_DELAY_SECONDS

    def ended(self, how: str, now: float) -> None:
        """It ended: is tried again after a delay that doubles, unless it was asked to end."""
        self.last_exit = self.refusal["error"] if self.refusal else how
        if self.state == "stopping":
            self.stop_trying()
            return
        if now - self._since >= STEADY_SECONDS:
            self._delay = FIRST_DELAY_SECONDS
        self.state, self.pid, self.due = "backing-off", None, now + self._delay
        self._delay = min(self._delay * 2, LONGEST_DELAY_SECONDS)
        self.restarts += 1

    def status(self, now: float) -> ProcessStatus:
        """What is known of it now."""
        return {
            "name": self.wire["name"],
            "state": self.state,
            "pid": self.pid,
            "restarts": self.restarts,
            "up_seconds": round(now - self._since, 3) if self.pid is not None else 0.0,
            "last_exit": self.last_exit,
            "outdated": self._outdated() if self.pid is not None else [],
            "settled": (self._running or self.wire).get("settled", {}),
        }

    def _outdated(self) -> list[str]:
        before, now = cast("dict[str, Any]", self._running or self.wire), dict(self.wire)
        was, will = before["environment"], self.wire["environment"]
        variables = {k for k in {*was, *will} if was.get(k) != will.get(k)}
        others = {k for k in now if k not in _NOT_SEEN and before.get(k) != now[k]}
        return [*sorted(variables), *sorted(others)]
