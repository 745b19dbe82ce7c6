"""What a service is told about the databases and brokers that it may use. Pure."""

import json
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from watertight.enforcers.registry import resource_enforcers
from watertight.enforcers.resource import Client, ClientSettings
from watertight.identity.keystores import PASSWORD
from watertight.model.addresses import callee_addresses
from watertight.model.placement import Placement
from watertight.model.system import Channel, System
from watertight.runtime.settled import digest

Reached: TypeAlias = Mapping[str, tuple[Client, ClientSettings]]
"""How a service reaches each of its resources."""


def client_of(
    system: System, placement: Placement, channel: Channel
) -> tuple[Client, ClientSettings]:
    """How the service at the start of a channel reaches its resource. Pure."""
    resource = system.resources[channel.target]
    shared = placement.shared_network
    addresses = callee_addresses(system, channel.source, shared_network=shared)
    client = Client(
        host=resource.name,
        address=addresses[resource.name],
        port=resource.port,
        credentials=placement.credentials(channel.source),
        originate=channel.originate,
        named=not placement.shared_network,
    )
    return client, resource_enforcers()[resource.kind].client(system, channel, client)


def all_reached(system: System, placement: Placement) -> Mapping[str, Reached]:
    """Service → resource → how it is reached; only services that reach one. Pure."""
    found: dict[str, dict[str, tuple[Client, ClientSettings]]] = {}
    for channel in system.channels:
        if channel.target in system.resources:
            reached = found.setdefault(channel.source, {})
            reached[channel.target] = client_of(system, placement, channel)
    return found


def told(system: System, service: str, reached: Reached) -> dict[str, str]:
    """For each thing that a service may use, a digest of all that its program is told of it. Pure.

    Its program reads that when it starts: where a digest changes, it must start anew.
    """
    found = {
        name: digest(_entry(system, name, client, settings), settings.environment, settings.files)
        for name, (client, settings) in reached.items()
    }
    for channel in system.outgoing(service):
        callee = system.services.get(channel.target)
        if callee is not None and callee.listens is not None:
            found[channel.target] = digest(callee.listens.protocol, callee.listens.port)
    return found


def channels_document(system: System, placement: Placement, service: str, reached: Reached) -> str:
    """What one service is told of its resources, as JSON."""
    document = {
        "service": service,
        "trust_domain": system.trust_domain,
        "credentials": str(placement.credentials(service)),
        "keystore_password": PASSWORD,
        "channels": {
            name: _entry(system, name, client, settings)
            for name, (client, settings) in sorted(reached.items())
        },
    }
    return json.dumps(document, indent=1)


def _entry(system: System, name: str, client: Client, settings: ClientSettings) -> dict[str, Any]:
    return {
        "kind": system.resources[name].kind,
        "host": client.host,
        "address": client.address,
        "port": client.port,
        "originate": client.originate,
        "parameters": dict(settings.parameters),
    }


def environment_of(all_settings: Iterable[ClientSettings]) -> dict[str, str]:
    """What the clients of a service read; a variable that two resources claim says nothing."""
    found: dict[str, str] = {}
    claimed: set[str] = set()
    for settings in all_settings:
        for key, value in settings.environment.items():
            if key in claimed and found.get(key) != value:
                found.pop(key, None)
                continue
            if key not in claimed:
                found[key] = value
            claimed.add(key)
    return found
