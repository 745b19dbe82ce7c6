"""Who holds a server's memory: what stays there after it was sent. Knows no server.

The server tells neither what an account costs it nor, for less than it costs, who waits for answers
(``ACCOUNTZ`` lists all of it: 34 MB of memory to tell of 23). But it counts the messages of each
import, and the ways back that last are those of a few imports only: fetches, and what services
answer. A publication into a stream goes by another, and leaves nothing.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import exp, inf
from typing import Any

from watertight.servers.nats.accounts import WayBack

REQUEST_BYTES = 2 << 10
"""What one way back may cost (measured: 650 to 1,800, with the subject of the reply)."""
SUBSCRIPTION_BYTES = 4 << 10
"""What one subscription may cost."""
AT_ONCE = 16
"""As many imports are counted in one look; each takes the server less than a millisecond."""


@dataclass(slots=True)
class Held:
    """How much each service holds, by estimate; times are those of one clock.

    A message without a subject for its reply leaves nothing, and is counted all the same: the
    server does not tell them apart.
    """

    ways: Sequence[WayBack] = ()
    """The imports that are counted."""
    _counted: dict[WayBack, tuple[int | None, float]] = field(default_factory=dict)
    """The last count, and when that was."""
    _requests: dict[WayBack, float] = field(default_factory=dict)
    """How many stand open."""
    _open: dict[str, float] = field(default_factory=dict)
    """Service → bytes that its connections hold now."""

    def due(self, every_seconds: float, now: float) -> Sequence[WayBack]:
        """Those that must be counted now: a few, so that nobody else waits for it."""
        at = {way: self._counted.get(way, (None, -inf))[1] for way in self.ways}
        late = [way for way in self.ways if now - at[way] >= every_seconds]
        return sorted(late, key=lambda way: at[way])[:AT_ONCE]

    def note_requests(self, way: WayBack, count: int | None, now: float) -> None:
        """How many messages an import has taken since it was made; by the first, nothing is
        known. After a reload the server begins anew with 0. None: it does not tell."""
        before, at = self._counted.get(way, (None, now))
        more = 0
        if count is not None and before is not None:
            more = count - before if count >= before else count
        stand = self._requests.get(way, 0.0) * exp((at - now) / way.seconds)
        self._counted[way], self._requests[way] = (count, now), stand + more

    def note_connections(self, connections: Iterable[Mapping[str, Any]]) -> None:
        """Those that are open; each names its account."""
        now: dict[str, float] = defaultdict(float)
        for one in connections:
            waiting = one.get("pending_bytes", 0)
            now[one["account"]] += one["subscriptions"] * SUBSCRIPTION_BYTES + waiting
        self._open = dict(now)

    def by_service(self) -> Mapping[str, float]:
        """Service → bytes."""
        found: dict[str, float] = defaultdict(float, self._open)
        for way, stand in self._requests.items():
            found[way.service] += stand * REQUEST_BYTES
        return found
