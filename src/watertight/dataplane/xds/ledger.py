"""Who was sent what version, and what they said to it: the memory behind ``status``."""

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from watertight.dataplane.resources import ResourceType
from watertight.dataplane.xds.events import REMOVED, Acknowledged, Command, Refused, Send


class State(StrEnum):
    """What became of the last version that a proxy was sent."""

    SENT = "sent"
    ACKED = "acked"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Entry:
    """The last thing that happened to one resource at one proxy."""

    type: ResourceType
    name: str
    version: str
    """A content hash; empty for a removal that is not yet confirmed, or was refused."""
    state: State
    at: dt.datetime
    """When it came to this state (UTC)."""
    detail: str = ""
    """Envoy's words, if it refused."""


@dataclass(slots=True)
class _Proxy:
    connected: bool = False
    since: dt.datetime | None = None
    entries: dict[tuple[ResourceType, str], Entry] = field(default_factory=dict)


class Ledger:
    """One page a proxy: its last stream, and the last state of each of its resources.

    A page survives the end of the stream, since the proxy then keeps what it had (xDS rule D11).
    Its size is bounded by what the proxy was sent.
    """

    def __init__(self, now: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC)) -> None:
        self._now = now
        self._proxies: dict[str, _Proxy] = {}

    def proxies(self) -> tuple[str, ...]:
        """Every proxy that ever connected, sorted."""
        return tuple(sorted(self._proxies))

    def connected_since(self, workload: str) -> dt.datetime | None:
        """When the present stream of that proxy began (UTC); None: it is not connected."""
        proxy = self._proxies.get(workload, _Proxy())
        return proxy.since if proxy.connected else None

    def entries(self, workload: str) -> tuple[Entry, ...]:
        """The last state of each resource of that proxy, by type and name."""
        page = self._proxies.get(workload, _Proxy()).entries
        return tuple(page[key] for key in sorted(page))

    def connected(self, workload: str) -> None:
        """A stream began: what the proxy holds, it says anew."""
        self._proxies[workload] = _Proxy(connected=True, since=self._now())

    def disconnected(self, workload: str) -> None:
        """The stream ended."""
        self._proxies[workload].connected = False
        self._proxies[workload].since = self._now()

    def forget(self, workload: str) -> None:
        """The proxy is no more."""
        self._proxies.pop(workload, None)

    def record(self, workload: str, command: Command) -> None:
        """Writes down what a session has just decided or learnt."""
        match command:
            case Send(type=type_, resources=resources, removed=removed):
                for encoded in resources:
                    self._write(workload, type_, encoded.name, encoded.version, State.SENT)
                for name in removed:
                    self._write(workload, type_, name, REMOVED, State.SENT)
            case Acknowledged(type=type_, versions=versions):
                for name, version in versions.items():
                    if version == REMOVED:
                        self._proxies[workload].entries.pop((type_, name), None)
                    else:
                        self._write(workload, type_, name, version, State.ACKED)
            case Refused(type=type_, name=name, version=version, detail=detail):
                self._write(workload, type_, name, version, State.REFUSED, detail)

    def _write(
        self,
        workload: str,
        type_: ResourceType,
        name: str,
        version: str,
        state: State,
        detail: str = "",
    ) -> None:
        entry = Entry(type_, name, version, state, self._now(), detail)
        self._proxies[workload].entries[type_, name] = entry
