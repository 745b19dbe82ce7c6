"""PostgreSQL as an enforcer, in the shape that every server's enforcer has."""

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
from watertight.model.findings import Finding
from watertight.model.placement import Placement
from watertight.model.rules import Flaw
from watertight.model.system import Channel, Resource, System
from watertight.servers.postgresql.check import check
from watertight.servers.postgresql.declaration import (
    KIND,
    DatabaseKeys,
    GrantKeys,
    declared,
    server_shares,
)
from watertight.servers.postgresql.uses import USES, grant_for


class PostgreSQLEnforcer:
    """Enforces channels to databases by roles and privileges of PostgreSQL's own."""

    kind = KIND
    resources = frozenset({KIND})
    port: int | None = 5432
    # PostgreSQL ≥ 17 takes TLS at once if ALPN says so (manual, section 54.2.10).
    originates: tuple[str, ...] | None = ("postgresql",)
    also_called: Sequence[str] = ("postgres", "pg", "psql")
    admin_form = "host=… user=…"
    shapes: Mapping[str, type[Shape]] = {
        "resource": DatabaseKeys,
        "channel": GrantKeys,
    }
    uses = USES

    def check(self, system: System, resource: Resource) -> Iterable[Flaw]:
        """See ``ResourceEnforcer``."""
        return check(system, resource)

    def granted(self, channel: Channel, action: str, thing: str) -> str | None:
        """See ``Explains``."""
        return grant_for(channel, action, thing)

    def project_files(self, resource: Resource) -> Mapping[str, str]:
        """See ``ReadsFiles``."""
        schema = declared(resource).schema_file
        return {} if schema is None else {"schema": schema}

    def compile(self, system: System, placement: Placement) -> Mapping[str, ServerPlan]:
        """See ``ResourceEnforcer``."""
        from watertight.servers.postgresql.compile import compile_postgresql

        return compile_postgresql(system, placement)

    def client(self, system: System, channel: Channel, client: Client) -> ClientSettings:
        """See ``ResourceEnforcer``."""
        from watertight.servers.postgresql.client import client_settings

        return client_settings(system, channel, client)

    def locate(self, plan: ServerPlan, placement: Placement, search_path: str) -> ServerProcess:
        """See ``ResourceEnforcer``."""
        from watertight.servers.postgresql.locate import locate

        return locate(plan, placement, search_path)

    async def apply(self, plan: ServerPlan, host: ServerHost) -> Applied:
        """See ``ResourceEnforcer``."""
        from watertight.servers.postgresql.apply import apply

        return await apply(plan, host)

    async def drift(self, plan: ServerPlan, host: ServerHost) -> Sequence[str]:
        """See ``ResourceEnforcer``."""
        from watertight.servers.postgresql.apply import drift

        return await drift(plan, host)

    async def rotate(self, plan: ServerPlan, host: ServerHost) -> None:
        """See ``ResourceEnforcer``."""
        from watertight.servers.postgresql.reload import rotate

        await rotate(plan, host)

    async def revoke(self, plan: ServerPlan, host: ServerHost, service: str) -> int:
        """See ``ResourceEnforcer``."""
        from watertight.servers.postgresql.apply import revoke

        return await revoke(plan, host, service)

    async def watch(self, plan: ServerPlan, host: ServerHost, turn: Turn, /) -> None:
        """See ``Watches``."""
        from watertight.servers.postgresql.watch import watch

        await watch(plan, host, turn)

    async def catch_up(self, plan: ServerPlan, host: ServerHost) -> Sequence[str]:
        """See ``Waits``."""
        from watertight.servers.postgresql.pending import catch_up

        return await catch_up(plan, host)

    async def waiting(self, plan: ServerPlan, host: ServerHost) -> Sequence[str]:
        """See ``Waits``."""
        from watertight.servers.postgresql.pending import waiting

        return await waiting(plan, host)

    def render(self, system: System, resource: Resource) -> Mapping[str, str]:
        """What the administrator of a server of somebody else's puts in place: name → text."""
        from watertight.servers.postgresql.external import render

        return render(system, resource)

    async def grant(
        self, system: System, resource: Resource, admin: str, *, dry_run: bool = False
    ) -> tuple[str, ...]:
        """See ``GrantsElsewhere``. ``admin``: a libpq connection string without a password."""
        from watertight.servers.postgresql.grant import grant

        return await grant(system, resource, admin, dry_run=dry_run)

    def door_connections(self, system: System, resource: Resource) -> Mapping[str, int]:
        """See ``BoundsDoors``.

        A server takes twice ``max_connections`` before anybody has logged in, and then turns away
        its operator, too (src/backend/postmaster/postmaster.c, MaxLivePostmasterChildren). So each
        caller has twice its share, which together is less.
        """
        return {name: 2 * share for name, share in server_shares(system, resource).items()}

    def weaknesses(self, system: System) -> Iterable[Finding]:
        """See ``KnowsWeaknesses``."""
        from watertight.servers.postgresql.weaknesses import weaknesses

        return weaknesses(system)

    def probes(self, system: System) -> Iterable[Probe]:
        """See ``ResourceEnforcer``."""
        from watertight.servers.postgresql.attacks import postgresql_probes

        return postgresql_probes(system)

    def deep_probes(self, system: System, deep: Deep) -> Iterable[Probe]:
        """See ``probes.deep``."""
        from watertight.servers.postgresql.attacks import deep as deep_probes

        return deep_probes.probes(system, deep)
