"""Channels to resources: bytes passed through untouched, for TLS goes from client to server.

At the resource each caller has a door of its own, as at a service: what is removed is cut, and who
has none reaches nothing. The door asks nobody who he is; the server does. Where the channel says
``originate``, the caller's proxy is the TLS client, with the caller's SVID.
"""

from collections.abc import Mapping

from watertight.dataplane.compile import app, passing, tls
from watertight.dataplane.compile.blocks import (
    APP_ADDRESS,
    Json,
    cluster,
    listener,
    pipe_address,
    tcp_address,
)
from watertight.dataplane.compile.door import door_name
from watertight.dataplane.compile.outbound import name
from watertight.dataplane.resources import Resource as EnvoyResource
from watertight.dataplane.resources import ResourceType
from watertight.enforcers.registry import resource_enforcers
from watertight.enforcers.resource import BoundsDoors
from watertight.model.addresses import callee_addresses
from watertight.model.kinds import kinds
from watertight.model.placement import Placement
from watertight.model.system import Channel, Position, Resource, System

SERVER_CLUSTER = "server"


def resource_proxy(
    system: System, placement: Placement, resource: Resource
) -> tuple[EnvoyResource, ...]:
    """What the proxy beside one server is sent: a door for each caller, and the way to it."""
    enforcer: object = resource_enforcers().get(resource.kind)
    bounds: Mapping[str, int] = {}
    if isinstance(enforcer, BoundsDoors):
        bounds = enforcer.door_connections(system, resource)
    made = [
        (
            ResourceType.LISTENER,
            _passing(
                door_name(channel.source),
                pipe_address(placement.door(resource.name, channel.source), mode=0o660),
                SERVER_CLUSTER,
                bounds.get(channel.source, passing.MOST_CONNECTIONS),
            ),
            channel.at,
        )
        for channel in system.incoming(resource.name)
    ]
    if not made:
        return ()
    return _resources([(ResourceType.CLUSTER, _server(resource), resource.at), *made])


def outbound(system: System, placement: Placement, channel: Channel) -> tuple[EnvoyResource, ...]:
    """Everything of one channel to a resource in the caller's proxy."""
    resource = system.resources[channel.target]
    addresses = callee_addresses(system, channel.source, shared_network=placement.shared_network)
    there = name(resource.name)
    listening = _passing(there, tcp_address(addresses[resource.name], resource.port), there)
    return _resources(
        [
            (ResourceType.CLUSTER, _door(system, placement, channel, resource), channel.at),
            (ResourceType.LISTENER, listening, channel.at),
        ]
    )


def _door(system: System, placement: Placement, channel: Channel, resource: Resource) -> Json:
    door = pipe_address(placement.door(resource.name, channel.source))
    if not channel.originate:
        return cluster(name(resource.name), door)
    alpn = kinds()[resource.kind].originates or ()
    secure = tls.originate(system.spiffe_id(resource.name), resource.name, alpn)
    return cluster(name(resource.name), door, transport_socket=secure)


def _server(resource: Resource) -> Json:
    if resource.address is None:
        there = tcp_address(APP_ADDRESS, resource.port)
        return cluster(SERVER_CLUSTER, there, connect_timeout_seconds=app.CONNECT_SECONDS)
    address = tcp_address(resource.address, resource.port)
    return {**cluster(SERVER_CLUSTER, address, connect_timeout_seconds=5.0), "type": "STRICT_DNS"}


def _passing(listener_name: str, address: Json, to: str, at_once: int | None = None) -> Json:
    """``at_once``: how many connections; one more is ended as it begins."""
    proxy = passing.proxy(listener_name, to)
    bounds = [] if at_once is None else [passing.bound(listener_name, at_once)]
    return listener(listener_name, address, [*bounds, proxy])


def _resources(made: list[tuple[ResourceType, Json, Position]]) -> tuple[EnvoyResource, ...]:
    return tuple(EnvoyResource(kind, body["name"], body, at) for kind, body, at in made)
