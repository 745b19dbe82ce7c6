"""What is known of running pods, as values."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ProcessState:
    """One process. ``state``: stopped, starting, running, backing-off or stopping."""

    name: str
    pid: int | None
    """As the pod's init numbers it (its own process namespace)."""
    state: str
    restarts: int
    up_seconds: float
    last_exit: str | None
    outdated: tuple[str, ...] = ()
    """In what it would be another, if it were started now: names of variables, and of the other
    keys of its :class:`~watertight.runtime.pod_wire.ProcessWire`."""
    settled: Mapping[str, str] = field(default_factory=dict)
    """What its start has settled (:mod:`watertight.runtime.settled`)."""


@dataclass(frozen=True, slots=True)
class PodStatus:
    """One pod. ``pid`` is its init, as this host numbers it."""

    name: str
    pid: int
    processes: tuple[ProcessState, ...]
    """Empty if the pod does not answer."""
