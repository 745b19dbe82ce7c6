"""MariaDB: an account is a name, and the Subject that its certificate must have."""

from asyncio import StreamReader, StreamWriter
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
    Turn,
)
from watertight.model.placement import Placement
from watertight.model.rules import Flaw
from watertight.model.system import Channel, Resource, System
from watertight.servers.facts import Change, Fact
from watertight.servers.kind import Part, Server, Session, Way
from watertight.servers.mariadb import compile as wanted
from watertight.servers.mariadb import definitions
from watertight.servers.mariadb.declaration import (
    KIND,
    PRIVILEGES,
    DatabaseKeys,
    GrantKeys,
    check,
    declared,
    stated,
)

SSL_REQUEST = bytes.fromhex("20000001008a0800000000012d") + bytes(23)
"""32 bytes, the second packet: protocol 4.1, TLS, authentication by plugin (MariaDB manual,
"Connection", SSLRequest)."""


class MariaDB(Server):
    """A database server, held to accounts and grants."""

    kind = KIND
    port = 3306
    originates = None  # TLS begins after the server has greeted
    also_called = ("mysql", "maria")
    shapes = {"resource": DatabaseKeys, "channel": GrantKeys}
    uses = tuple(f"{privilege} TABLE" for privilege in PRIVILEGES)
    takes = {Part.LEAF: Way.COMMAND, Part.ROOT: Way.COMMAND, Part.CONFIGURATION: Way.RESTART}
    facts = wanted.KINDS
    keeps = frozenset({wanted.DATABASE})
    remedy = "Look at the server's log; take away by hand what stands in the way."
    unfit_remedy = "Have its administrator take it away, or rename it."
    admin_form = "mysql://USER@HOST:3306?ca=FILE"

    def check(self, system: System, resource: Resource) -> Iterable[Flaw]:
        """See ``Server``."""
        return check(system, resource)

    def project_files(self, resource: Resource) -> Mapping[str, str]:
        """See ``ReadsFiles``."""
        file = declared(resource).schema_file
        return {"schema": file} if file else {}

    def granted(self, channel: Channel, action: str, thing: str) -> str | None:
        """See ``Explains``."""
        privilege = action.lower()
        if privilege not in PRIVILEGES:
            raise ValueError(action)
        fitting = [g for g in stated(channel) if (g.privilege, g.table) == (privilege, thing)]
        return ", ".join(map(str, fitting)) or None

    def files(self, system: System, resource: Resource, placement: Placement) -> Mapping[str, str]:  # noqa: ARG002
        """See ``Server``."""
        return wanted.files(resource, placement)

    def grants(self, system: System, resource: Resource) -> Any:
        """See ``Server``."""
        return wanted.grants_of(system, resource)

    def desired(self, grants: Any, found: frozenset[Fact]) -> frozenset[Fact]:
        """See ``Server``."""
        facts = wanted.facts_of(grants)
        return facts | definitions.right(found) if grants.ours else facts

    def told(self, change: Change) -> str:
        """See ``Server``."""
        changed = change.found is not None and change.wanted is not None
        if changed and change.thing.kind == wanted.DEFINITION:
            return f"{change.thing.name} was changed by hand"
        return change.what

    def client(self, system: System, channel: Channel, client: Client) -> ClientSettings:
        """See ``Server``."""
        from watertight.servers.mariadb.client import client_settings

        return client_settings(system, channel, client)

    def render(self, system: System, resource: Resource) -> Mapping[str, str]:
        """See ``Server``."""
        return wanted.render(system, resource)

    def door_connections(self, system: System, resource: Resource) -> Mapping[str, int]:
        """See ``BoundsDoors``."""
        return wanted.doors(system, resource)

    def locate(self, plan: ServerPlan, placement: Placement, search_path: str) -> ServerProcess:
        """See ``Server``."""
        from watertight.servers.mariadb.locate import locate

        return locate(plan, placement, search_path)

    def session(self, plan: ServerPlan, host: ServerHost) -> AbstractAsyncContextManager[Session]:
        """See ``Server``."""
        from watertight.servers.mariadb.session import session

        return session(plan, host)

    async def before_start(self, plan: ServerPlan, host: ServerHost) -> None:  # noqa: ARG002
        """See ``Server``."""
        from watertight.servers.mariadb.locate import initialise

        await initialise(host)

    async def watch(self, plan: ServerPlan, host: ServerHost, turn: Turn, /) -> None:  # noqa: ARG002
        """See ``Watches``."""
        from watertight.servers.mariadb.watch import watch

        await watch(plan, host)

    async def prelude(self, reader: StreamReader, writer: StreamWriter) -> None:
        """The server greets, and is asked for TLS. Raises OSError."""
        length = int.from_bytes((await reader.readexactly(4))[:3], "little")
        greeting = await reader.readexactly(length)
        if greeting[:1] != b"\x0a":
            raise ConnectionError(f"it greets with {greeting[:60]!r}")
        writer.write(SSL_REQUEST)

    async def grant(
        self, system: System, resource: Resource, admin: str, *, dry_run: bool = False
    ) -> tuple[str, ...]:
        """See ``GrantsElsewhere``. ``admin``: see ``elsewhere.FORM``."""
        from watertight.servers.converge import grant
        from watertight.servers.mariadb.elsewhere import session

        async with session(system, resource, admin) as theirs:
            return await grant(self, system, resource, theirs, dry_run=dry_run)

    def probes(self, system: System) -> Iterable[Probe]:
        """See ``Server``."""
        from watertight.servers.mariadb.attacks import mariadb_probes

        return mariadb_probes(system)

    def unattacked(self, system: System) -> Iterable[Gap]:
        """See ``Enforcer``."""
        from watertight.servers.mariadb.attacks import gaps

        return gaps(system)
