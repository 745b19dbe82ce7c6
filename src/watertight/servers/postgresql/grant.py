"""Grants in a database that others run, over a connection that its administrator gives us.

Only our services' roles, ``PUBLIC`` and the schemas that channels name are touched: what else lives
there is not ours to judge.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from watertight.enforcers.resource import AdminRefused, ServerRefused
from watertight.errors import WatertightError
from watertight.model.system import Resource, System
from watertight.servers.postgresql.admin import CONNECT_SECONDS, OPTIONS, Connection
from watertight.servers.postgresql.catalog import Found, read
from watertight.servers.postgresql.compile import DatabasePlan, database_plan
from watertight.servers.postgresql.converge import refuse_absent
from watertight.servers.postgresql.declaration import Kind
from watertight.servers.postgresql.external import statements
from watertight.servers.postgresql.limits import RESERVED
from watertight.servers.postgresql.privileges import Absent, grant_steps, says

VERIFIED = "verify-full"
LOCK_TIMEOUT = "10s"
"""Who blocks us there is not ours to end, so that it is not asked again and again."""


async def grant(
    system: System, resource: Resource, admin: str, *, dry_run: bool = False
) -> tuple[str, ...]:
    """See ``GrantsElsewhere``. ``admin``: a libpq connection string without a password.

    All of it is one transaction, which a dry run rolls back.
    """
    plan = database_plan(system, resource)
    async with _connected(resource, admin, plan.name) as connection:
        try:
            async with connection.transaction(force_rollback=dry_run):
                before = await read(connection, plan)
                refuse_absent(plan, [a for a in grant_steps(before, plan)[1] if not _made(a)])
                await _has_room(connection, resource, plan)
                await connection.execute("\n".join(statements(plan)).encode())
                return _changes(before, await read(connection, plan))
        except psycopg.Error as error:
            raise WatertightError(
                f"{resource.at}: The server of {resource.name} refuses: "
                f"{error.diag.message_primary or error}.",
                remedy="Nothing was changed. It takes a superuser of the server.",
            ) from error


async def _has_room(connection: Connection, resource: Resource, plan: DatabasePlan) -> None:
    """Shares of a server that others run are shares of what it has. Raises ServerRefused."""
    row = await (await connection.execute("SHOW max_connections")).fetchone()
    there, given = int(row[0]) if row else 0, sum(role.connections for role in plan.roles)
    if given + RESERVED > there:
        raise ServerRefused(
            resource.at,
            f"The server of {resource.name} takes {there} connections; its channels come to "
            f"{given}.",
            f"Say what it takes (`connections: {there}`), or have it take more.",
        )


@asynccontextmanager
async def _connected(resource: Resource, admin: str, database: str) -> AsyncIterator[Connection]:
    where = _checked(admin, database)
    try:
        connection = await psycopg.AsyncConnection.connect(
            where, autocommit=True, prepare_threshold=None
        )
    except psycopg.Error as error:
        raise WatertightError(
            f"{resource.name} does not let its administrator in: {_words(error)}"
        ) from error
    try:
        yield connection
    finally:
        await connection.close()


def _checked(admin: str, database: str) -> str:
    """The connection string, completed. Raises AdminRefused."""
    try:
        said = conninfo_to_dict(admin)
    except psycopg.Error as error:
        raise AdminRefused(f"That is no connection string: {_words(error)}") from None
    if "password" in said:
        raise AdminRefused(
            "A password in the command is seen by everybody on this machine.",
            remedy="Leave it out, and put it into PGPASSFILE (libpq, section 34.16).",
        )
    if said.get("sslmode", VERIFIED) != VERIFIED:
        raise AdminRefused(
            f"sslmode={said['sslmode']} does not prove who the server is.",
            remedy=f"Leave it out: it is {VERIFIED}. Who signs its certificate: sslrootcert=FILE.",
        )
    return make_conninfo(
        admin,
        dbname=database,
        sslmode=VERIFIED,
        gssencmode="disable",  # it would come before TLS
        options=f"{OPTIONS} -c lock_timeout={LOCK_TIMEOUT}",
        application_name="watertight",
        connect_timeout=CONNECT_SECONDS,
    )


def _words(error: psycopg.Error) -> str:
    return " ".join(str(error).split())


def _made(absent: Absent) -> bool:
    """A schema is made, if there is none."""
    return absent.grant.target.kind is Kind.SCHEMA


def _changes(before: Found, after: Found) -> tuple[str, ...]:
    """What was done, in the words of `drift`."""
    return (
        *(f"role {name} made" for name in sorted(after.roles.keys() - before.roles.keys())),
        *(
            f"role {name} put right"
            for name in sorted(before.roles)
            if before.roles[name].attributes != after.roles[name].attributes
            or before.roles[name].limited != after.roles[name].limited
            or before.roles[name].connections != after.roles[name].connections
        ),
        *(
            f"settings of role {name} put right"
            for name in sorted({p.role for p in before.presets ^ after.presets})
        ),
        *(f"extension {name} made" for name in sorted(after.extensions - before.extensions)),
        *(
            f"revoked: {says(held)} from {held.grantee or 'everybody'}"
            for held in sorted(before.held - after.held)
        ),
        *(f"granted: {says(held)} to {held.grantee}" for held in sorted(after.held - before.held)),
    )
