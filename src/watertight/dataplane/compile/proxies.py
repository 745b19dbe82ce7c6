"""One plan per proxy: each is told of its own neighbours and of nobody else."""

from collections.abc import Mapping
from itertools import chain
from types import MappingProxyType

from watertight.dataplane.compile import app, edge, inbound, native, outbound
from watertight.dataplane.compile.bootstrap import bootstrap
from watertight.dataplane.compile.callee import callee, is_ours
from watertight.dataplane.compile.door import Door
from watertight.dataplane.compile.neighbourhood import neighbourhood
from watertight.dataplane.compile.refusal import NotCompilable
from watertight.dataplane.resources import (
    EnvoyPlan,
    Inputs,
    ProxyPlan,
    Resource,
    ResourceType,
)
from watertight.model.placement import Placement
from watertight.model.system import GATEWAY, Channel, HTTPGrant, Protocol, Service, System

NO_KEYS: Mapping[str, str] = MappingProxyType({})
NOTHING = EnvoyPlan(MappingProxyType({}))


def compile_envoy(
    system: System,
    placement: Placement,
    keys: Mapping[str, str] = NO_KEYS,
    *,
    before: EnvoyPlan = NOTHING,
) -> EnvoyPlan:
    """The plan of every proxy of ``system``.

    ``keys``: issuer name → its JWK Set as JSON, as ``gateway.keysets`` checked it. ``before``: an
    earlier plan, of which the proxies are taken whose inputs are the same. Raises
    :class:`NotCompilable` if anything declared cannot be enforced as declared.
    """
    _check_keys(system, keys)
    proxies = {}
    for name in system.workloads():
        near = neighbourhood(system, name, shared_network=placement.shared_network)
        inputs = (placement, near, keys if name == GATEWAY else NO_KEYS)
        known = before.proxies.get(name)
        proxies[name] = known if known and known.inputs == inputs else _compile(name, inputs)
    return EnvoyPlan(proxies)


def _compile(name: str, inputs: Inputs) -> ProxyPlan:
    placement, system, keys = inputs
    if name == GATEWAY and system.gateway is not None:
        resources = edge.resources(system, placement, system.gateway, keys)
    elif name in system.resources:
        resources = native.resource_proxy(system, placement, system.resources[name])
    else:
        resources = sidecar(system, placement, system.services[name])
    return ProxyPlan(name, bootstrap(placement, name), resources, inputs)


def _check_keys(system: System, keys: Mapping[str, str]) -> None:
    """A route whose tokens nobody could verify is refused, not left to chance."""
    for route in system.gateway.routes if system.gateway else ():
        if route.require is not None and route.require.issuer not in keys:
            raise NotCompilable(
                route.at,
                f"the keys of issuer `{route.require.issuer}` are not known.",
                remedy="See why its key set could not be read.",
            )


def sidecar(system: System, placement: Placement, service: Service) -> tuple[Resource, ...]:
    """What the proxy beside one service is sent."""
    doors = _doors(system, service)
    made: list[Resource] = []
    if service.listens is not None and doors:
        made += [
            Resource(ResourceType.CLUSTER, body["name"], body, service.at)
            for body in app.clusters(service.listens)
        ]
    made += chain.from_iterable(inbound.resources(system, placement, door) for door in doors)
    made += chain.from_iterable(
        outbound.resources(system, placement, channel)
        if is_ours(system, channel)
        else native.outbound(system, placement, channel)
        for channel in system.outgoing(service.name)
    )
    return tuple(made)


def _doors(system: System, service: Service) -> list[Door]:
    doors = [_channel_door(system, channel) for channel in system.incoming(service.name)]
    return [*doors, *_gateway_door(system, service)]


def _channel_door(system: System, channel: Channel) -> Door:
    return Door(
        callee=channel.target,
        caller=channel.source,
        listens=callee(system, channel),
        grants=channel.grants,
        timeout_seconds=channel.timeout_seconds,
        retries=channel.retries,
        at=channel.at,
    )


def _gateway_door(system: System, service: Service) -> list[Door]:
    """At most one: what the gateway may ask for is the union of its routes to the service."""
    routes = system.routes_to(service.name)
    if not routes:
        return []
    if service.listens is None or service.listens.protocol is Protocol.TCP:
        raise NotCompilable(
            routes[0].at,
            f"the gateway's route `{routes[0].path}` leads to `{service.name}`, "
            "which does not speak HTTP.",
            remedy="Route to a service that listens on http or grpc.",
        )
    grants = {HTTPGrant(m, route.target_path) for route in routes for m in route.methods}
    return [
        Door(
            callee=service.name,
            caller=GATEWAY,
            listens=service.listens,
            grants=tuple(sorted(grants)),
            timeout_seconds=None,
            retries=0,
            at=routes[0].at,
            routes=routes,
        )
    ]
