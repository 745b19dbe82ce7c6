"""The words of an xDS exchange: what may happen to a session, and what it then wants done.

Events are past tense, commands imperative or, where they only report, past tense too.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from watertight.dataplane.resources import ResourceType
from watertight.dataplane.xds.encode import Encoded
from watertight.model.system import NOWHERE, Position

REMOVED = ""
"""The version of what must not be there."""

Desired: TypeAlias = Mapping[tuple[ResourceType, str], Encoded]


@dataclass(frozen=True, slots=True)
class Requested:
    """A DeltaDiscoveryRequest arrived: an ACK, a NACK, a change of subscription, or both."""

    type: ResourceType
    nonce: str = ""
    """Of the response that this answers; empty if it answers none."""
    error: str | None = None
    """``error_detail.message`` of a NACK; None: no NACK (D1: nothing else tells)."""
    subscribe: tuple[str, ...] = ()
    unsubscribe: tuple[str, ...] = ()
    initial_versions: Mapping[str, str] = field(default_factory=dict)
    """What the proxy already holds (name → version), on the first request of a type (D6)."""


@dataclass(frozen=True, slots=True)
class ResourcesChanged:
    """All resources that this proxy shall have, of all the given types."""

    resources: Desired
    types: frozenset[ResourceType]


@dataclass(frozen=True, slots=True)
class Send:
    """Send a DeltaDiscoveryResponse."""

    type: ResourceType
    nonce: str
    resources: tuple[Encoded, ...] = ()
    removed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """The proxy now holds these versions; a :data:`REMOVED` one is gone."""

    type: ResourceType
    versions: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Refused:
    """The proxy refuses exactly this resource and keeps what it had."""

    type: ResourceType
    name: str
    version: str
    detail: str
    """Envoy's own words."""
    at: Position = NOWHERE


Event: TypeAlias = Requested | ResourcesChanged
Command: TypeAlias = Send | Acknowledged | Refused


class Overstepped(Exception):
    """A proxy asks for more than any plan holds: its stream is to be ended. Shown to nobody."""
