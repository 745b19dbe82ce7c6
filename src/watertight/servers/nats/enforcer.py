"""NATS, as an enforcer: the server maps an SVID to a user, and the user to subjects."""

from collections.abc import Iterable, Mapping, Sequence

from watertight.attack.probe import Deep, Probe
from watertight.enforcers.contract import Applied
from watertight.enforcers.resource import (
    Client,
    ClientSettings,
    ServerHost,
    ServerPlan,
    ServerProcess,
    Turn,
)
from watertight.model.declaration import Shape
from watertight.model.diff import Change
from watertight.model.placement import Placement
from watertight.model.rules import Flaw
from watertight.model.system import Channel, Resource, System
from watertight.servers.nats.check import check
from watertight.servers.nats.declaration import KIND, ChannelKeys, ServerKeys, StreamKeys
from watertight.servers.nats.uses import USES, grant_for


class NATSEnforcer:
    """Implements :class:`~watertight.enforcers.resource.ResourceEnforcer`."""

    kind = KIND
    resources = frozenset({KIND})
    shapes: Mapping[str, type[Shape]] = {
        "resource": ServerKeys,
        "stream": StreamKeys,
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
        from watertight.servers.nats.compile import compile_plans

        return compile_plans(system, placement)

    def render(self, system: System, resource: Resource) -> Mapping[str, str]:
        """Pure: what the administrator of an external server needs, file name → text."""
        from watertight.servers.nats.render import render

        return render(system, resource)

    def client(self, system: System, channel: Channel, client: Client) -> ClientSettings:
        """See the protocol."""
        from watertight.servers.nats.client import client_settings

        return client_settings(system, channel, client)

    def locate(self, plan: ServerPlan, placement: Placement, search_path: str) -> ServerProcess:
        """See the protocol."""
        from watertight.servers.nats.locate import locate_server

        return locate_server(plan, placement, search_path)

    async def apply(self, plan: ServerPlan, host: ServerHost) -> Applied:
        """See the protocol."""
        from watertight.servers.nats.apply import apply_plan

        return await apply_plan(plan, host)

    async def drift(self, plan: ServerPlan, host: ServerHost) -> Sequence[str]:
        """See the protocol."""
        from watertight.servers.nats.apply import find_drift

        return await find_drift(plan, host)

    async def rotate(self, plan: ServerPlan, host: ServerHost) -> None:
        """See the protocol."""
        from watertight.servers.nats.reload import rotate

        await rotate(plan, host)

    async def revoke(self, plan: ServerPlan, host: ServerHost, service: str) -> int:
        """See the protocol."""
        from watertight.servers.nats.apply import cut

        return await cut(plan, host, service)

    async def watch(self, plan: ServerPlan, host: ServerHost, _turn: Turn, /) -> None:
        """See ``Watches``."""
        from watertight.servers.nats.watch import watch

        await watch(plan, host)

    def forgotten(self, before: System, after: System) -> Iterable[Change]:
        """See ``Forgets``."""
        from watertight.servers.nats.storage import forgotten

        return forgotten(before, after)

    def probes(self, system: System) -> Iterable[Probe]:
        """See the protocol."""
        from watertight.servers.nats.attacks import nats_probes

        return nats_probes(system)

    def deep_probes(self, system: System, deep: Deep) -> Iterable[Probe]:
        """See ``probes.deep``."""
        from watertight.servers.nats.attacks import deep as deep_probes

        return deep_probes.probes(system, deep)
