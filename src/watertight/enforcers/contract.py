"""The shape of an enforcer (DESIGN.md section 6).

Each registers itself under the entry point ``watertight.enforcers``.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from watertight.attack.probe import Probe
from watertight.model.placement import Placement
from watertight.model.system import System


@dataclass(frozen=True, slots=True)
class Cut:
    """What a revocation ended."""

    spiffe_id: str
    sessions: int
    """Connections that it had open, and that others had open to it, the gateway included."""
    seconds: float


@dataclass(frozen=True, slots=True)
class Applied:
    """What is in force after ``apply``: name of each artefact → its version (a content hash)."""

    versions: Mapping[str, str]
    changed: tuple[str, ...]


class Enforcer(Protocol):
    """One kind of place where policy is enforced."""

    kind: str

    def compile(self, system: System, placement: Placement) -> Any:
        """Pure: the full set of artefacts for this system."""
        ...

    async def apply(self, artifacts: Any) -> Applied:
        """Makes them so. Idempotent: a second run changes nothing. Returns when in force."""
        ...

    def probes(self, system: System) -> Iterable[Probe]:
        """Every attack and every permitted use that follows from the declaration."""
        ...
