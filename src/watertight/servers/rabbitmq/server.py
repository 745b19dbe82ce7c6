"""RabbitMQ: it knows each service by the SPIFFE ID in its certificate."""

from collections.abc import Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

from watertight.attack.probe import Deep, Gap, Probe
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
from watertight.servers.rabbitmq.declaration import (
    KIND,
    BindingKeys,
    BrokerKeys,
    ChannelKeys,
    check,
    grants,
)
from watertight.servers.rabbitmq.facts import DEFINITIONS, KINDS, QUEUE, facts_of
from watertight.servers.rabbitmq.uses import USES, grant_for


class RabbitMQ(Server):
    """A broker, held to users, permissions and topology."""

    kind = KIND
    port = 5671  # amqps, IANA
    originates = ()
    also_called = ("rabbit", "amqp")
    admin_form = "https://USER@HOST:15671"
    shapes = {"resource": BrokerKeys, "binding": BindingKeys, "channel": ChannelKeys}
    uses = USES
    takes = {
        Part.LEAF: Way.COMMAND,
        Part.ROOT: Way.COMMAND,
        Part.CONFIGURATION: Way.RESTART,
    }
    live_files = frozenset({DEFINITIONS})
    facts = KINDS
    keeps = frozenset({QUEUE})
    remedy = "A queue or exchange keeps what it was made as: remove it by hand."
    unfit_remedy = "Enable the plugin that `watertight render` prints, or use RabbitMQ 4.0.3."

    def check(self, system: System, resource: Resource) -> Iterable[Flaw]:
        """See ``Server``."""
        return check(system, resource)

    def granted(self, channel: Channel, action: str, thing: str) -> str | None:
        """See ``Explains``."""
        return grant_for(channel, action, thing)

    def files(self, system: System, resource: Resource, placement: Placement) -> Mapping[str, str]:
        """See ``Server``."""
        from watertight.servers.rabbitmq.compile import files

        return files(system, resource, placement)

    def grants(self, system: System, resource: Resource) -> Any:
        """See ``Server``."""
        from watertight.servers.rabbitmq.compile import grants_of

        return grants_of(system, resource)

    def desired(self, grants: Any, found: frozenset[Fact]) -> frozenset[Fact]:  # noqa: ARG002
        """See ``Server``."""
        return facts_of(grants.definitions)

    def client(self, system: System, channel: Channel, client: Client) -> ClientSettings:
        """See ``Server``."""
        from watertight.servers.rabbitmq.client import client_settings

        return client_settings(system, channel, client)

    def render(self, system: System, resource: Resource) -> Mapping[str, str]:
        """See ``Server``."""
        from watertight.servers.rabbitmq.render import render

        return render(system, resource)

    def door_connections(self, system: System, resource: Resource) -> Mapping[str, int]:
        """See ``BoundsDoors``.

        A broker counts who has logged in; each that has not yet takes some 200 kB of it for TLS.
        """
        return {
            channel.source: 2 * grants(channel).connections
            for channel in system.incoming(resource.name)
        }

    def locate(self, plan: ServerPlan, placement: Placement, search_path: str) -> ServerProcess:
        """See ``Server``."""
        from watertight.servers.rabbitmq.locate import locate_broker

        return locate_broker(plan, placement, search_path)

    def session(self, plan: ServerPlan, host: ServerHost) -> AbstractAsyncContextManager[Session]:
        """See ``Server``."""
        from watertight.servers.rabbitmq.session import session

        return session(plan, host)

    async def before_start(self, plan: ServerPlan, host: ServerHost) -> None:
        """See ``Server``: it gets a guard compiled from its files, and makes its own cookie."""
        from watertight.servers.rabbitmq.starting import build

        await build(plan, host)

    async def started(self, plan: ServerPlan, host: ServerHost) -> None:
        """See ``Server``: what a broker of an unfit version granted, it grants no more."""
        from watertight.servers.rabbitmq.starting import look_at_version

        await look_at_version(plan, host)

    async def grant(
        self, system: System, resource: Resource, admin: str, *, dry_run: bool = False
    ) -> tuple[str, ...]:
        """See ``GrantsElsewhere``. ``admin``: ``https://USER@HOST:PORT`` of the management API."""
        from watertight.servers.converge import grant
        from watertight.servers.rabbitmq.elsewhere import session

        async with session(system, resource, admin) as theirs:
            return await grant(self, system, resource, theirs, dry_run=dry_run)

    def probes(self, system: System) -> Iterable[Probe]:
        """See ``Server``."""
        from watertight.servers.rabbitmq.attacks import rabbitmq_probes

        return rabbitmq_probes(system)

    def deep_probes(self, system: System, deep: Deep) -> Iterable[Probe]:
        """See ``Enforcer``."""
        from watertight.servers.rabbitmq.attacks import deep as deep_probes

        return deep_probes.probes(system, deep)

    def unattacked(self, system: System) -> Iterable[Gap]:
        """See ``Enforcer``."""
        from watertight.servers.rabbitmq.attacks.gaps import gaps

        return gaps(system)
