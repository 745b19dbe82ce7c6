"""What the Envoy compiler hands to the xDS server: resources as plain JSON, with their origin.

Bodies are the proto3 JSON form without ``@type``; keys are snake_case as in Envoy's own docs.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeAlias

from watertight.model.placement import Placement
from watertight.model.system import NOWHERE, Position, System

Inputs: TypeAlias = tuple[Placement, System, Mapping[str, str]]
"""All that one proxy's plan follows from; the keys are the gateway's alone."""


class ResourceType(StrEnum):
    """The xDS resource types that we serve, in the order in which they are made (xDS rule D7)."""

    SECRET = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"  # noqa: S105
    CLUSTER = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
    ENDPOINT = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
    LISTENER = "type.googleapis.com/envoy.config.listener.v3.Listener"
    ROUTE = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
    EXTENSION = "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig"


@dataclass(frozen=True, slots=True)
class Resource:
    """One named xDS resource and the line of the declaration that it comes from."""

    type: ResourceType
    name: str
    body: Mapping[str, Any]
    at: Position = NOWHERE


@dataclass(frozen=True, slots=True)
class ProxyPlan:
    """All that one Envoy is sent; secrets come from identity, not from here."""

    workload: str
    bootstrap: Mapping[str, Any]
    resources: tuple[Resource, ...]
    inputs: Inputs | None = field(default=None, compare=False, repr=False)
    """What it was compiled from, if the compiler made it."""


@dataclass(frozen=True, slots=True)
class EnvoyPlan:
    """The full set of artefacts of this enforcer: one proxy a workload."""

    proxies: Mapping[str, ProxyPlan]
