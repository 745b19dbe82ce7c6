"""MongoDB: FerretDB, behind a guard that knows each service by its SPIFFE ID."""

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
from watertight.servers.mongodb.compile import (
    COLLECTION,
    DATABASE,
    GRANTS,
    KINDS,
    STRAY,
    files,
    plan_of,
)
from watertight.servers.mongodb.declaration import (
    KIND,
    USES,
    ChannelKeys,
    DatabaseKeys,
    check,
    grant_for,
    granted,
)


class MongoDB(Server):
    """A database of documents, held to its roles and their collections."""

    kind = KIND
    port = 27017
    also_called = ("mongo", "mongod", "ferretdb")
    fetched = True
    shapes = {"resource": DatabaseKeys, "channel": ChannelKeys}
    uses = USES
    takes = {
        # The guard reads both at each handshake; the signal is for PostgreSQL, and does no harm.
        Part.LEAF: Way.SIGNAL,
        Part.ROOT: Way.SIGNAL,
        Part.CONFIGURATION: Way.RESTART,
    }
    live_files = frozenset({GRANTS})
    facts = KINDS
    keeps = frozenset({DATABASE, COLLECTION, STRAY})
    remedy = "Look at what is there, and remove it by hand."

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
        return plan_of(system, resource)

    def desired(self, grants: Any, found: frozenset[Fact]) -> frozenset[Fact]:  # noqa: ARG002
        """See ``Server``."""
        wanted: frozenset[Fact] = grants.facts
        return wanted

    def client(self, system: System, channel: Channel, client: Client) -> ClientSettings:
        """See ``Server``."""
        from watertight.servers.mongodb.client import client_settings

        return client_settings(system, channel, client)

    def render(self, system: System, resource: Resource) -> Mapping[str, str]:
        """See ``Server``."""
        from watertight.servers.mongodb.mongod import render

        return render(system, resource)

    def door_connections(self, system: System, resource: Resource) -> Mapping[str, int]:
        """See ``BoundsDoors``."""
        return {c.source: granted(c).connections for c in system.incoming(resource.name)}

    def locate(self, plan: ServerPlan, placement: Placement, search_path: str) -> ServerProcess:
        """See ``Server``."""
        from watertight.servers.mongodb.locate import locate

        return locate(plan, placement, search_path)

    def session(self, plan: ServerPlan, host: ServerHost) -> AbstractAsyncContextManager[Session]:
        """See ``Server``."""
        from watertight.servers.mongodb.session import session

        return session(plan, host)

    async def before_start(self, plan: ServerPlan, host: ServerHost) -> None:  # noqa: ARG002
        """See ``Server``: a data directory is made once."""
        from watertight.servers.mongodb.locate import initialise

        await initialise(host)

    def probes(self, system: System) -> Iterable[Probe]:
        """See ``Server``."""
        from watertight.servers.mongodb.attacks import mongodb_probes

        return mongodb_probes(system)

    def unattacked(self, system: System) -> Iterable[Gap]:
        """See ``Enforcer``."""
        from watertight.servers.mongodb.attacks import gaps

        return gaps(system)
