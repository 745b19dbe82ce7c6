"""Every attack on PostgreSQL servers, and every permitted use, from the declaration alone."""

from collections.abc import Iterator

from watertight.enforcers.contract import Probe
from watertight.model.system import System


def postgresql_probes(system: System) -> Iterator[Probe]:
    """All probes of all databases that ``system`` declares."""
    yield from ()
