"""The order in which services start: callees before their callers, and who waits for whom."""

import contextlib
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise

from watertight.model.system import System


def callees(system: System) -> Mapping[str, frozenset[str]]:
    """Service → the services that start before it.

    Services that call one another in a circle have no order between them: each copes as it does
    when a peer restarts. So the edges of a circle are left out of the order.
    """
    found: dict[str, set[str]] = {name: set() for name in system.services}
    for channel in system.channels:
        if channel.source in found and channel.target in found:
            found[channel.source].add(channel.target)
    while True:
        try:
            TopologicalSorter(found).prepare()
            break
        except CycleError as error:
            for callee, caller in pairwise(error.args[1]):
                found[caller].discard(callee)
    return {name: frozenset(before) for name, before in found.items()}


def start_order(system: System) -> tuple[tuple[str, ...], ...]:
    """Services in waves: each wave's callees are all in earlier waves."""
    sorter = TopologicalSorter(callees(system))
    sorter.prepare()
    waves: list[tuple[str, ...]] = []
    while sorter.is_active():
        wave = tuple(sorted(sorter.get_ready()))
        waves.append(wave)
        sorter.done(*wave)
    return tuple(waves)


FAILS_BY_ITSELF = 3
"""Having ended so often, a service is no excuse for those that call it."""


class Starting:
    """Which services are on their way to being ready, where some call one another in a circle."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._waiting: set[str] = set()
        self._failing: set[str] = set()

    @contextlib.contextmanager
    def waits(self, name: str) -> Iterator[None]:
        """While a service is waited for."""
        self._waiting.add(name)
        try:
            yield
        finally:
            self._waiting.discard(name)

    def excuses(self, name: str, ended: int) -> bool:
        """Whether a service that has ``ended`` so often may owe it to one that is not ready yet."""
        if ended >= FAILS_BY_ITSELF:
            self._failing.add(name)
        callees = {channel.target for channel in self._system.outgoing(name)}
        return bool(callees & self._waiting - self._failing - {name})
