"""The order in which services start: callees before their callers. Pure."""

from graphlib import CycleError, TopologicalSorter
from itertools import pairwise

from watertight.model.system import System


def start_order(system: System) -> tuple[tuple[str, ...], ...]:
    """Services in waves: each wave's callees are all in earlier waves.

    Services that call one another in a circle have no order between them: each copes as it does
    when a peer restarts. So the edges of a circle are left out of the order.
    """
    callees: dict[str, set[str]] = {name: set() for name in system.services}
    for channel in system.channels:
        if channel.source in callees and channel.target in callees:
            callees[channel.source].add(channel.target)
    while True:
        sorter = TopologicalSorter(callees)
        try:
            sorter.prepare()
            break
        except CycleError as error:
            for callee, caller in pairwise(error.args[1]):
                callees[caller].discard(callee)
    waves: list[tuple[str, ...]] = []
    while sorter.is_active():
        wave = tuple(sorted(sorter.get_ready()))
        waves.append(wave)
        sorter.done(*wave)
    return tuple(waves)
