"""Kafka: it knows each service by the Subject of its certificate."""

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
from watertight.servers.kafka.declaration import (
    KIND,
    BrokerKeys,
    ChannelKeys,
    TopicKeys,
    check,
    grants,
)
from watertight.servers.kafka.facts import KINDS, TOPIC
from watertight.servers.kafka.uses import USES, grant_for
from watertight.servers.kind import Part, Server, Session, Way


class Kafka(Server):
    """One node that is its own controller, held to topics, access and quotas."""

    kind = KIND
    port = 9093
    # A broker tells its clients where to come back to: a name that TLS must verify.
    originates = None
    also_called = ("apache-kafka",)
    fetched = True
    shapes = {"resource": BrokerKeys, "topic": TopicKeys, "channel": ChannelKeys}
    uses = USES
    takes = {
        Part.LEAF: Way.COMMAND,
        Part.ROOT: Way.COMMAND,
        Part.CONFIGURATION: Way.RESTART,
    }
    admin_form = "ssl://HOST:9093?ca=FILE&cert=FILE&key=FILE"
    facts = KINDS
    keeps = frozenset({TOPIC})
    unfit_remedy = "Have its administrator take those entries away: `watertight render` has ours."
    remedy = "A topic cannot lose partitions: give it another name, or remove it by hand."

    def check(self, system: System, resource: Resource) -> Iterable[Flaw]:
        """See ``Server``."""
        return check(system, resource)

    def granted(self, channel: Channel, action: str, thing: str) -> str | None:
        """See ``Explains``."""
        return grant_for(channel, action, thing)

    def files(self, system: System, resource: Resource, placement: Placement) -> Mapping[str, str]:
        """See ``Server``."""
        from watertight.servers.kafka.compile import files

        return files(system, resource, placement)

    def grants(self, system: System, resource: Resource) -> Any:
        """See ``Server``."""
        from watertight.servers.kafka.compile import grants_of

        return grants_of(system, resource)

    def desired(self, grants: Any, found: frozenset[Fact]) -> frozenset[Fact]:  # noqa: ARG002
        """See ``Server``."""
        wanted: frozenset[Fact] = grants.facts
        return wanted

    def client(self, system: System, channel: Channel, client: Client) -> ClientSettings:
        """See ``Server``."""
        from watertight.servers.kafka.client import client_settings

        return client_settings(system, channel, client)

    def render(self, system: System, resource: Resource) -> Mapping[str, str]:
        """See ``Server``."""
        from watertight.servers.kafka.render import render

        return render(system, resource)

    def door_connections(self, system: System, resource: Resource) -> Mapping[str, int]:
        """See ``BoundsDoors``: Kafka counts connections by address, and all come from one."""
        return {
            channel.source: grants(channel).connections
            for channel in system.incoming(resource.name)
        }

    def locate(self, plan: ServerPlan, placement: Placement, search_path: str) -> ServerProcess:
        """See ``Server``."""
        from watertight.servers.kafka.locate import locate_broker

        return locate_broker(plan, placement, search_path)

    def session(self, plan: ServerPlan, host: ServerHost) -> AbstractAsyncContextManager[Session]:
        """See ``Server``."""
        from watertight.servers.kafka.session import session

        return session(plan, host)

    async def grant(
        self, system: System, resource: Resource, admin: str, *, dry_run: bool = False
    ) -> tuple[str, ...]:
        """See ``GrantsElsewhere``."""
        from watertight.servers.converge import grant
        from watertight.servers.kafka.elsewhere import session

        async with session(system, resource, admin) as theirs:
            return await grant(self, system, resource, theirs, dry_run=dry_run)

    async def before_start(self, plan: ServerPlan, host: ServerHost) -> None:
        """See ``Server``: a directory is prepared once."""
        from watertight.servers.kafka.locate import format_data

        await format_data(plan, host)

    def probes(self, system: System) -> Iterable[Probe]:
        """See ``Server``."""
        from watertight.servers.kafka.attacks import kafka_probes

        return kafka_probes(system)

    def unattacked(self, system: System) -> Iterable[Gap]:
        """See ``Enforcer``."""
        from watertight.servers.kafka.attacks.gaps import gaps

        return gaps(system)
