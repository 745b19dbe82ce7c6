"""The enforcers that are installed, ours and others': entry point ``watertight.enforcers``."""

from functools import cache
from importlib.metadata import entry_points

from watertight.enforcers.contract import Enforcer

GROUP = "watertight.enforcers"


@cache
def enforcers() -> dict[str, type[Enforcer]]:
    """Enforcer classes by kind."""
    return {entry.name: entry.load() for entry in entry_points(group=GROUP)}


def resource_kinds() -> frozenset[str]:
    """The resource kinds that an installed enforcer can enforce."""
    return frozenset(
        kind for enforcer in enforcers().values() for kind in getattr(enforcer, "resources", ())
    )
