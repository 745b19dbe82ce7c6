"""NATS, as an enforcer: the server maps an SVID to a user, and the user to subjects."""

from collections.abc import Iterable, Mapping, Sequence

from watertight.enforcers.contract import Applied, Capability, Deep, Placement, Probe
from watertight.enforcers.nats.check import check
from watertight.enforcers.nats.declaration import KIND, ChannelKeys, ServerKeys, StreamKeys
from watertight.enforcers.nats.uses import USES, grant_for
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
from watertight.model.rules import Flaw
from watertight.model.system import Channel, Resource, System


class NATSEnforcer:
    """Implements :class:`~watertight.enforcers.resource.ResourceEnforcer`."""

    kind = KIND
    resources = frozenset({KIND})
    capability = Capability(lowest_tls="1.3")
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
        from watertight.enforcers.nats.compile import compile_plans

        return compile_plans(system, placement)

    def render(self, system: System, resource: Resource) -> Mapping[str, str]:
        """Pure: what the administrator of an external server needs, file name → text."""
        from watertight.enforcers.nats.render import render

        return render(system, resource)

    def client(self, system: System, channel: Channel, client: Client) -> ClientSettings:
        """See the protocol."""
        from watertight.enforcers.nats.client import client_settings

        return client_settings(system, channel, client)

    def locate(self, plan: ServerPlan, placement: Placement, search_path: str) -> ServerProcess:
        """See the protocol."""
        from watertight.enforcers.nats.locate import locate_server

        return locate_server(plan, placement, search_path)

    async def apply(self, plan: ServerPlan, host: ServerHost) -> Applied:
        """See the protocol."""
        from watertight.enforcers.nats.apply import apply_plan

        return await apply_plan(plan, host)

    async def drift(self, plan: ServerPlan, host: ServerHost) -> Sequence[str]:
        """See the protocol."""
        from watertight.enforcers.nats.apply import find_drift

        return await find_drift(plan, host)

    async def rotate(self, plan: ServerPlan, host: ServerHost) -> None:
        """See the protocol."""
        from watertight.enforcers.nats.reload import rotate

        await rotate(plan, host)

    async def revoke(self, plan: ServerPlan, host: ServerHost, service: str) -> int:
        """See the protocol."""
        from watertight.enforcers.nats.apply import cut

        return await cut(plan, host, service)

    async def watch(self, plan: ServerPlan, host: ServerHost, _turn: Turn, /) -> None:
        """See ``Watches``."""
        from watertight.enforcers.nats.watch import watch

        await watch(plan, host)

    def forgotten(self, before: System, after: System) -> Iterable[Change]:
        """See ``Forgets``."""
        from watertight.enforcers.nats.storage import forgotten

        return forgotten(before, after)

    def probes(self, system: System) -> Iterable[Probe]:
        """See the protocol."""
        from watertight.enforcers.nats.probes import nats_probes

        return nats_probes(system)

    def deep_probes(self, system: System, deep: Deep) -> Iterable[Probe]:
        """See ``probes.deep``."""
        from watertight.enforcers.nats.probes import deep as deep_probes

        return deep_probes.probes(system, deep)
