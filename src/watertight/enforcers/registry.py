"""The enforcers that are installed, ours and others': entry point ``watertight.enforcers``."""

from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import entry_points
from typing import cast

from watertight.enforcers.contract import Enforcer
from watertight.enforcers.resource import HasKeys, ResourceEnforcer, WellKnown
from watertight.model.kinds import Kind, known_from
from watertight.model.rules import Flaw
from watertight.model.schema import KindShapes
from watertight.model.system import System

GROUP = "watertight.enforcers"


@cache
def enforcers() -> dict[str, type[Enforcer | ResourceEnforcer]]:
    """Enforcer classes by kind."""
    return {entry.name: entry.load() for entry in entry_points(group=GROUP)}


@cache
def resource_enforcers() -> Mapping[str, ResourceEnforcer]:
    """An enforcer for each resource kind that one is installed for."""
    made = [enforcer() for enforcer in enforcers().values() if getattr(enforcer, "resources", ())]
    theirs = [cast("ResourceEnforcer", enforcer) for enforcer in made]
    return {kind: enforcer for enforcer in theirs for kind in enforcer.resources}


def kinds() -> Mapping[str, Kind]:
    """What the model must know of the kinds that are installed."""
    return {
        kind: Kind(enforcer.port, enforcer.originates, tuple(enforcer.also_called))
        for kind, enforcer in resource_enforcers().items()
        if isinstance(enforcer, WellKnown) and enforcer.port is not None
    }


def shapes() -> KindShapes:
    """Which keys their resources and channels have."""
    found = resource_enforcers().items()
    return {kind: enforcer.shapes for kind, enforcer in found if isinstance(enforcer, HasKeys)}


known_from(kinds)


def resource_flaws(system: System) -> Iterator[Flaw]:
    """What the enforcers find wrong with resources and with the channels to them."""
    for resource in system.resources.values():
        enforcer = resource_enforcers().get(resource.kind)
        if enforcer is not None:
            yield from enforcer.check(system, resource)
