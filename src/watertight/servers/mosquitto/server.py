"""Mosquitto: it knows each service by the common name in its certificate."""

from collections.abc import Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

from watertight.attack.probe import Gap, Probe
from watertight.enforcers.resource import (
    Client,
    ClientSettings,
    ServerHost,
    ServerPlan,
    ServerProcess,
)
from watertight.model.placement import Placement
from watertight.model.rules import Flaw
from watertight.model.system import Channel, Resource, System
from watertight.servers.facts import Fact
from watertight.servers.kind import Part, Server, Session, Way
from watertight.servers.mosquitto.compile import (
    DOOR_CONNECTIONS,
    KINDS,
    SECURITY,
    facts_of,
    files,
    grants_of,
)
from watertight.servers.mosquitto.declaration import (
    KIND,
    USES,
    BrokerKeys,
    ChannelKeys,
    check,
    grant_for,
)


class Mosquitto(Server):
    """An MQTT broker, held to its users and their topics."""

    kind = KIND
    port = 8883  # secure-mqtt, IANA
    originates = ()
    also_called = ("mqtt",)
    shapes = {"resource": BrokerKeys, "channel": ChannelKeys}
    uses = USES
    takes = {
        Part.LEAF: Way.SIGNAL,
        # It reads its roots when it starts, and never again.
        Part.ROOT: Way.RESTART,
        Part.CONFIGURATION: Way.RESTART,
    }
    live_files = frozenset({SECURITY})
    facts = KINDS

    def check(self, system: System, resource: Resource) -> Iterable[Flaw]:
        """See ``Server``."""
        return check(system, resource)

    def granted(self, channel: Channel, action: str, thing: str) -> str | None:
        """See ``Explains``."""
        return grant_for(channel, action, thing)

    def files(self, system: System, resource: Resource, placement: Placement) -> Mapping[str, str]:
        """See ``Server``."""
        return files(system, resource, placement)

    def grants(self, system: System, resource: Resource) -> Any:
        """See ``Server``."""
        return grants_of(system, resource)

    def desired(self, grants: Any, found: frozenset[Fact]) -> frozenset[Fact]:  # noqa: ARG002
        """See ``Server``."""
        return facts_of(grants.security)

    def client(self, system: System, channel: Channel, client: Client) -> ClientSettings:  # noqa: ARG002
        """See ``Server``."""
        from watertight.servers.mosquitto.client import client_settings

        return client_settings(channel, client)

    def render(self, system: System, resource: Resource) -> Mapping[str, str]:
        """See ``Server``."""
        from watertight.servers.mosquitto.client import render

        return render(system, resource)

    def door_connections(self, system: System, resource: Resource) -> Mapping[str, int]:
        """See ``BoundsDoors``: each takes memory for TLS before anybody has logged in."""
        return {c.source: DOOR_CONNECTIONS for c in system.incoming(resource.name)}

    def locate(self, plan: ServerPlan, placement: Placement, search_path: str) -> ServerProcess:
        """See ``Server``."""
        from watertight.servers.mosquitto.locate import locate_broker

        return locate_broker(plan, placement, search_path)

    def session(self, plan: ServerPlan, host: ServerHost) -> AbstractAsyncContextManager[Session]:
        """See ``Server``."""
        from watertight.servers.mosquitto.session import session

        return session(plan, host)

    def probes(self, system: System) -> Iterable[Probe]:
        """See ``Server``."""
        from watertight.servers.mosquitto.attacks import mosquitto_probes

        return mosquitto_probes(system)

    def unattacked(self, system: System) -> Iterable[Gap]:
        """See ``Enforcer``."""
        from watertight.servers.mosquitto.attacks.cases import gaps

        return gaps(system)
