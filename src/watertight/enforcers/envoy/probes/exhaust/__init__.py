"""Using up what all share: the host from inside a pod, the disk from outside, the authority."""

from collections.abc import Iterator
from dataclasses import replace

from watertight.enforcers.contract import Probe
from watertight.enforcers.envoy.probes.edge import CHANNEL
from watertight.enforcers.envoy.probes.exhaust import authority, disk, host
from watertight.enforcers.envoy.probes.exhaust.watching import PATIENCE
from watertight.model.system import System


def probes(system: System) -> Iterator[Probe]:
    """For every service that runs here, and for the gateway. All take their time."""
    services = {name: service for name, service in system.services.items() if service.run}
    yield from host.probes(services)
    for probe in (*authority.probes(services), *disk.probes(services, system.gateway)):
        yield replace(probe, patience=PATIENCE, costly=probe.channel != CHANNEL)
