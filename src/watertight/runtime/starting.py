"""Waits until a process is ready, and sees early when it will never be.

Sooner than its deadline it is given up that ends again and again, that listens on another port
than the one it declares, or whose readiness path answers that there is no such path. Whoever waits
is told after a moment what is being waited for.
"""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass

from watertight.errors import WatertightError
from watertight.runtime.lastwords import last_words
from watertight.runtime.layout import Layout
from watertight.runtime.listeners import listening_in
from watertight.runtime.pod_client import Pod
from watertight.runtime.pod_spec import APP, HTTPReady, PortReady, ProcessSpec
from watertight.runtime.proc import family
from watertight.runtime.readiness import NOTHING_ACCEPTS, ready_once
from watertight.runtime.states import PodStatus, ProcessState
from watertight.runtime.symptoms import remedy_for

CRASHES = 3
CRASHING_SECONDS = 1.5
"""Having ended so often, and tried for so long, it is not a matter of the moment."""
TELL_SECONDS = 2.0
WRONG_SECONDS = 20.0
"""How long it may listen elsewhere only, or say that it has no such path: a debugger's port opens
long before a large program has started."""
_POLL_SECONDS = 0.02
_LOOK_SECONDS = 0.1
_PORTS_SECONDS = 1.0
"""Looking through all processes of a host for sockets takes a while."""
_FINAL = re.compile(r"answers (3..|40[1345]|410|501)\b")
"""RFC 9110 section 15: no matter of the moment, as 503 is."""


class NotReadyError(WatertightError):
    """A process did not become ready."""


def _nobody(_: str) -> None:
    """Tells nobody."""


@dataclass(frozen=True, slots=True)
class Patience:
    """What whoever waits knows of the process, besides its specification."""

    steady_seconds: float = 0.0
    """How long a process must run that is ready as soon as it runs."""
    private_ports: Collection[int] = ()
    """Further ports on which it may listen."""
    tell: Callable[[str], None] = _nobody
    """Is told once, if it takes a moment, what is being waited for."""
    excused: Callable[[int], bool] = lambda _: False
    """Given how often it has ended: whether that is somebody else's fault for now."""


USUAL = Patience()


class Start:
    """One process that was started, on its way to being ready."""

    def __init__(
        self,
        pod: Pod,
        spec: ProcessSpec,
        layout: Layout,
        look: Callable[[], Awaitable[PodStatus]],
        log_begins: int,
    ) -> None:
        """``look``: asks the pod for its status; ``log_begins``: where its log was at the start."""
        self._pod = pod
        self._spec = spec
        self._layout = layout
        self._look = look
        self._log_begins = log_begins
        self._began = time.monotonic()
        self._looked = self._looked_for_ports = -1.0
        self._first: int | None = None
        self._counted_from = 0
        self._elsewhere: tuple[str, ...] = ()
        self._wrong_since: float | None = None
        self._told = False
        self._how = ""

    async def until_ready(self, deadline_seconds: float, patience: Patience = USUAL) -> None:
        """Returns once it is ready. Raises :class:`NotReadyError` as soon as it is clear that it
        will not be, or at the deadline."""
        seen = "nothing was seen of it"
        try:
            async with asyncio.timeout(deadline_seconds):
                while True:
                    seen = await ready_once(self._pod, self._spec.ready)
                    seen = seen or await self._trouble(patience)
                    if not seen:
                        return
                    seen = await self._judge(seen, patience)
                    await asyncio.sleep(_POLL_SECONDS)
        except TimeoutError as error:
            why = f"is not ready after {deadline_seconds:g} s: {seen}"
            raise self._failure(why) from error

    async def _judge(self, seen: str, patience: Patience) -> str:
        """What is seen, perhaps better told. Raises NotReadyError if there is no hope."""
        now = time.monotonic()
        if now - self._looked < _LOOK_SECONDS:
            return seen
        self._looked = now
        status = await self._look()
        state = self._state(status)
        if state is None:
            return seen
        if state.state != "running":
            seen = f"it is {state.state}, last: {state.last_exit}"
        self._judge_crashes(state, patience, now)
        # A server has ports of its own, some of which it opens long before the one that we know.
        listens = isinstance(self._spec.ready, PortReady | HTTPReady) and self._spec.name == APP
        if listens and state.state == "running" and now - self._began > _PORTS_SECONDS:
            if now - self._looked_for_ports > _PORTS_SECONDS:
                self._looked_for_ports = now
                self._elsewhere = await self._listens_elsewhere(status, patience)
            seen = self._judge_what_it_does(seen, now)
        if not self._told and now - self._began > TELL_SECONDS:
            self._told = True
            patience.tell(f"{self._pod.name} is not ready yet: {seen}.")
        return seen

    def _judge_crashes(self, state: ProcessState, patience: Patience, now: float) -> None:
        self._how = state.last_exit or "" if state.state != "running" else self._how
        if self._first is None:
            self._first = self._counted_from = state.restarts
        if patience.excused(state.restarts - self._first):
            self._counted_from = state.restarts
        crashes = state.restarts - self._counted_from
        if crashes >= CRASHES and now - self._began >= CRASHING_SECONDS:
            self._how = state.last_exit or ""
            times = state.restarts - self._first
            last = self._how if self._how.startswith("killed") else f"with {self._how}"
            raise self._failure(
                f"does not start: it ended {times} times within {now - self._began:.1f} s, "
                f"last {last}"
            )

    def _judge_what_it_does(self, seen: str, now: float) -> str:
        wrong = remedy = ""
        if self._elsewhere and seen == NOTHING_ACCEPTS:
            listens = " and ".join(self._elsewhere)
            here = f"127.0.0.1:{getattr(self._spec.ready, 'port', 0)}"
            wrong = f"it listens on {listens}, and not on {here} as it declares"
            remedy = f"Correct `listens`, or have it listen on {here}."
        elif _FINAL.search(seen):
            wrong = seen
            remedy = "Correct `ready`; without it, a service is ready once its port accepts."
        if not wrong:
            self._wrong_since = None
            return seen
        self._wrong_since = self._wrong_since or now
        if now - self._wrong_since >= WRONG_SECONDS:
            raise NotReadyError(
                f"{self._who} is not ready: {wrong}.", remedy=f"{remedy} {self._where_it_speaks}"
            )
        return wrong

    async def _listens_elsewhere(self, status: PodStatus, patience: Patience) -> tuple[str, ...]:
        """TCP sockets of the process on which it should not listen, or not only."""
        sockets = await asyncio.to_thread(lambda: listening_in(status, family()))
        tcp = (s.address for s in sockets if s.process == self._spec.name)
        addresses = sorted({a for a in tcp if not a.startswith(("unix:", "udp:"))})
        private = {str(port) for port in patience.private_ports}
        return tuple(a for a in addresses if a.rpartition(":")[2] not in private)

    async def _trouble(self, patience: Patience) -> str:
        """What answered may not be what should: it is dead, and its port taken by another."""
        status = await self._look()
        found = self._state(status)
        if found is None:
            return "its pod does not answer"
        if found.state != "running":
            return f"it is {found.state}, last: {found.last_exit}"
        if self._spec.ready is None and found.up_seconds < patience.steady_seconds:
            return "it has only just started"
        if self._layout.capabilities.shared_network and isinstance(
            self._spec.ready, PortReady | HTTPReady
        ):
            end = f":{self._spec.ready.port}"
            sockets = listening_in(status, family())
            if not any(s.address.endswith(end) for s in sockets if s.process == self._spec.name):
                return f"another program listens on its port {self._spec.ready.port}"
        return ""

    def _state(self, status: PodStatus) -> ProcessState | None:
        return next((p for p in status.processes if p.name == self._spec.name), None)

    @property
    def _who(self) -> str:
        pod, process = self._pod.name, self._spec.name
        return pod if process == APP else f"{pod}'s {process}"

    @property
    def _where_it_speaks(self) -> str:
        return f"All that it said: {self._layout.log(self._pod.name, self._spec.name)}"

    def _failure(self, why: str) -> NotReadyError:
        """With its last words, and what they tell."""
        log = self._layout.log(self._pod.name, self._spec.name)
        lines = last_words(log, self._log_begins)
        said = "".join(f"\n    {line}" for line in lines)
        return NotReadyError(
            f"{self._who} {why}." + (f" It said last:{said}" if said else " It said nothing."),
            remedy=f"{remedy_for(self._how, lines)} {self._where_it_speaks}".strip(),
        )
