"""Using up what all share: the host from inside a pod, the disk from outside, the authority."""

from collections.abc import Iterator
from dataclasses import replace

from watertight.attack.probe import Probe
from watertight.dataplane.attacks.edge import CHANNEL
from watertight.dataplane.attacks.exhaust import authority, disk, host
from watertight.dataplane.attacks.exhaust.watching import PATIENCE
from watertight.model.system import System


def probes(system: System) -> Iterator[Probe]:
    """For every service that runs here, and for the gateway. All take their time."""
    services = {name: service for name, service in system.services.items() if service.run}
    yield from host.probes(services)
    for probe in (*authority.probes(services), *disk.probes(services, system.gateway)):
        yield replace(probe, patience=PATIENCE, costly=probe.channel != CHANNEL)
