"""RabbitMQ as an enforcer: it knows each service by the SPIFFE ID in its certificate."""

from collections.abc import Iterable, Mapping, Sequence

from watertight.attack.probe import Deep, Gap, Probe
from watertight.enforcers.contract import Applied, Capability
from watertight.enforcers.resource import (
    Client,
    ClientSettings,
    ServerHost,
    ServerPlan,
    ServerProcess,
)
from watertight.model.declaration import Shape
from watertight.model.placement import Placement
from watertight.model.rules import Flaw
from watertight.model.system import Channel, Resource, System
from watertight.servers.rabbitmq.declaration import (
    KIND,
    BindingKeys,
    BrokerKeys,
    ChannelKeys,
    check,
    grants,
)
from watertight.servers.rabbitmq.uses import USES, grant_for


class RabbitMQEnforcer:
    """Implements :class:`~watertight.enforcers.resource.ResourceEnforcer`."""

    kind = KIND
    resources = frozenset({KIND})
    capability = Capability()
    shapes: Mapping[str, type[Shape]] = {
        "resource": BrokerKeys,
        "binding": BindingKeys,
        "channel": ChannelKeys,
    }
    uses = USES

    def check(self, system: System, resource: Resource) -> Iterable[Flaw]:
        """See the protocol."""
        return check(system, resource)

    def granted(self, channel: Channel, action: str, thing: str) -> str | None:
        """See ``Explains``."""
        return grant_for(channel, action, thing)

    def compile(self, system: System, placement: Placement) -> Mapping[str, ServerPlan]:
        """See the protocol."""
        from watertight.servers.rabbitmq.compile import compile_plans

        return compile_plans(system, placement)

    def render(self, system: System, resource: Resource) -> Mapping[str, str]:
        """See the protocol."""
        from watertight.servers.rabbitmq.render import render

        return render(system, resource)

    def client(self, system: System, channel: Channel, client: Client) -> ClientSettings:
        """See the protocol."""
        from watertight.servers.rabbitmq.client import client_settings

        return client_settings(system, channel, client)

    def locate(self, plan: ServerPlan, placement: Placement, search_path: str) -> ServerProcess:
        """See the protocol."""
        from watertight.servers.rabbitmq.locate import locate_broker

        return locate_broker(plan, placement, search_path)

    async def apply(self, plan: ServerPlan, host: ServerHost) -> Applied:
        """See the protocol."""
        from watertight.servers.rabbitmq.apply import apply_plan

        return await apply_plan(plan, host)

    async def drift(self, plan: ServerPlan, host: ServerHost) -> Sequence[str]:
        """See the protocol."""
        from watertight.servers.rabbitmq.apply import find_drift

        return await find_drift(plan, host)

    async def rotate(self, plan: ServerPlan, host: ServerHost) -> None:
        """See the protocol."""
        from watertight.servers.rabbitmq.apply import rotate

        await rotate(plan, host)

    async def revoke(self, plan: ServerPlan, host: ServerHost, service: str) -> int:
        """See the protocol."""
        from watertight.servers.rabbitmq.apply import cut

        return await cut(plan, host, service)

    async def grant(
        self, system: System, resource: Resource, admin: str, *, dry_run: bool = False
    ) -> tuple[str, ...]:
        """See ``GrantsElsewhere``. ``admin``: ``https://USER@HOST:PORT`` of the management API."""
        from watertight.servers.rabbitmq.grant import grant

        return await grant(system, resource, admin, dry_run=dry_run)

    def door_connections(self, system: System, resource: Resource) -> Mapping[str, int]:
        """See ``BoundsDoors``.

        A broker counts who has logged in; each that has not yet takes some 200 kB of it for TLS.
        """
        return {
            channel.source: 2 * grants(channel).connections
            for channel in system.incoming(resource.name)
        }

    def probes(self, system: System) -> Iterable[Probe]:
        """See the protocol."""
        from watertight.servers.rabbitmq.attacks import rabbitmq_probes

        return rabbitmq_probes(system)

    def deep_probes(self, system: System, deep: Deep) -> Iterable[Probe]:
        """See ``probes.deep``."""
        from watertight.servers.rabbitmq.attacks import deep as deep_probes

        return deep_probes.probes(system, deep)

    def unattacked(self, system: System) -> Iterable[Gap]:
        """See ``probes.gaps``."""
        from watertight.servers.rabbitmq.attacks.gaps import gaps

        return gaps(system)
