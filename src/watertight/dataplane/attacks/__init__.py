"""The attacks on Envoy's channels, and their permitted uses, derived from the declaration alone.

Nothing here knows how the channels were compiled: the attacker shares no code with the defender.
"""

from watertight.attack.probe import Probe
from watertight.dataplane.attacks import (
    crowd,
    desync,
    empty_segments,
    exhaust,
    forged,
    gateway,
    grants,
    identity,
    isolation,
    kernel,
    limits,
    ports,
    reach,
    rpc,
    sessions,
    smuggling,
    tls,
    tokens,
    unread,
    uses,
    wholeness,
)
from watertight.model.system import System

MODULES = (
    uses,
    tls,
    identity,
    sessions,
    grants,
    empty_segments,
    forged,
    smuggling,
    desync,
    rpc,
    wholeness,
    reach,
    isolation,
    kernel,
    ports,
    gateway,
    tokens,
    limits,
    exhaust,
    crowd,
    unread,
)


def envoy_probes(system: System) -> tuple[Probe, ...]:
    """Every probe of every channel of ``system``, in an order that is good to read."""
    return tuple(probe for module in MODULES for probe in module.probes(system))
