"""NATS: the server maps an SVID to a user, and the user to subjects."""

import datetime as dt
from collections.abc import Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any

from watertight.attack.probe import Deep, Probe
from watertight.enforcers.resource import (
    Client,
    ClientSettings,
    ServerHost,
    ServerPlan,
    ServerProcess,
    Turn,
)
from watertight.model.diff import Change as Lost
from watertight.model.placement import Placement
from watertight.model.rules import Flaw
from watertight.model.system import Channel, Resource, System
from watertight.servers.facts import Change, Fact
from watertight.servers.kind import Part, Server, Session, Way
from watertight.servers.nats.check import check
from watertight.servers.nats.declaration import KIND, ChannelKeys, ServerKeys, StreamKeys
from watertight.servers.nats.uses import USES, grant_for
from watertight.servers.served import Prelude


class NATS(Server):
    """A server, held to accounts, streams and consumers."""

    kind = KIND
    port = 4222
    # Its INFO says tls_required inside TLS too (handshake_first), so that a client in the clear
    # starts TLS of its own within its proxy's: seen with nats-py 2.16 on nats-server 2.15.
    originates = None
    also_called = ("jetstream",)
    shapes = {"resource": ServerKeys, "stream": StreamKeys, "channel": ChannelKeys}
    uses = USES
    takes = dict.fromkeys(Part, Way.SIGNAL)
    stale_way = Way.SIGNAL
    facts = ("stream", "consumer")
    keeps = frozenset({"stream"})
    remedy = "Nothing was lost. What stands in the way, delete with the command `nats`."

    def check(self, system: System, resource: Resource) -> Iterable[Flaw]:
        """See ``Server``."""
        return check(system, resource)

    def granted(self, channel: Channel, action: str, thing: str) -> str | None:
        """See ``Explains``."""
        return grant_for(channel, action, thing)

    def files(self, system: System, resource: Resource, placement: Placement) -> Mapping[str, str]:
        """See ``Server``."""
        from watertight.servers.nats.compile import files

        return files(system, resource, placement)

    def grants(self, system: System, resource: Resource) -> Any:
        """See ``Server``."""
        from watertight.servers.nats.compile import grants_of

        return grants_of(system, resource)

    def desired(self, grants: Any, found: frozenset[Fact]) -> frozenset[Fact]:
        """See ``Server``."""
        from watertight.servers.nats.facts import desired

        return desired(grants, found)

    def told(self, change: Change) -> str:
        """See ``Server``."""
        from watertight.servers.nats.facts import told

        return told(change)

    def client(self, system: System, channel: Channel, client: Client) -> ClientSettings:
        """See ``Server``."""
        from watertight.servers.nats.client import client_settings

        return client_settings(system, channel, client)

    def render(self, system: System, resource: Resource) -> Mapping[str, str]:
        """See ``Server``."""
        from watertight.servers.nats.render import render

        return render(system, resource)

    def locate(self, plan: ServerPlan, placement: Placement, search_path: str) -> ServerProcess:
        """See ``Server``."""
        from watertight.servers.nats.locate import locate_server

        return locate_server(plan, placement, search_path)

    def session(self, plan: ServerPlan, host: ServerHost) -> AbstractAsyncContextManager[Session]:
        """See ``Server``."""
        from watertight.servers.nats.session import session

        return session(plan, host)

    async def try_files(self, plan: ServerPlan, host: ServerHost) -> None:
        """See ``Server``: a server that runs keeps what it has, and only logs why."""
        from watertight.servers.nats.reload import try_files

        await try_files(plan, host)

    async def reload(self, plan: ServerPlan, host: ServerHost, part: Part, /) -> None:
        """See ``Server``. What a new account imports from others as a service, is in force only
        with the next load (seen on 2.9 and 2.15)."""
        from watertight.servers.nats.reload import reload

        for _ in range(2 if part is Part.CONFIGURATION else 1):
            await reload(plan, host)

    def before_tls(self, plan: ServerPlan) -> Prelude | None:
        """See ``Server``: an older server says its INFO in the clear."""
        from watertight.servers.nats.operator import pass_info

        return None if plan.grants.tls_first else pass_info

    def file_drift(self, plan: ServerPlan, host: ServerHost) -> list[str]:
        """See ``Server``. Who is shown out has no user in the file that stands."""
        from watertight.servers.nats.shown_out import shown_out, without_users

        out = shown_out(plan, host) or frozenset()
        files = {name: without_users(text, out) for name, text in plan.files.items()}
        told = [f"{one} is shown out for a while: it took the server's memory" for one in out]
        return told + super().file_drift(replace(plan, files=files), host)

    async def revoke(self, plan: ServerPlan, host: ServerHost, service: str) -> int:
        """See ``ResourceEnforcer``: how many it ended, the server's list of them tells."""
        from watertight.servers.nats.session import session

        since = dt.datetime.now(dt.UTC)
        await super().revoke(plan, host, service)
        if not await host.running():
            return 0
        async with session(plan, host) as asked:
            return await asked.ended(service, since)

    async def watch(self, plan: ServerPlan, host: ServerHost, _turn: Turn, /) -> None:
        """See ``Watches``."""
        from watertight.servers.nats.watch import watch

        await watch(plan, host)

    def forgotten(self, before: System, after: System) -> Iterable[Lost]:
        """See ``Forgets``."""
        from watertight.servers.nats.storage import forgotten

        return forgotten(before, after)

    def probes(self, system: System) -> Iterable[Probe]:
        """See ``Server``."""
        from watertight.servers.nats.attacks import nats_probes

        return nats_probes(system)

    def deep_probes(self, system: System, deep: Deep) -> Iterable[Probe]:
        """See ``Enforcer``."""
        from watertight.servers.nats.attacks import deep as deep_probes

        return deep_probes.probes(system, deep)
