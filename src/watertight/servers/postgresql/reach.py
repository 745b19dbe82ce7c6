"""Nothing that a service owns is in reach of what we run with more rights than a service has.

The schema file runs as the database's owner, and names in it mean whatever is there: a function
that fits better than the server's own, a table that was made before the file makes it. So, for the
time of the run and in its transaction alone,

- in the schema where names without one are looked for, there is nothing of a service's, and none
  may put anything there (or the run is refused);
- every schema that holds things of services, or in which one may make some, is another's: the owner
  cannot look into it. What they make or change there meanwhile makes no difference;
- nothing of the owner's depends on a thing of a service's (or the run is refused).
"""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from watertight.enforcers.resource import ServerPlan, ServerRefused
from watertight.errors import WatertightError
from watertight.model.document import quoted
from watertight.servers.postgresql.admin import Connection
from watertight.servers.postgresql.catalog import Found
from watertight.servers.postgresql.compile import OPERATOR, OWNER, DatabasePlan
from watertight.servers.postgresql.declaration import DEFAULT_SCHEMA
from watertight.servers.postgresql.steps import identifier
from watertight.servers.postgresql.told import some

_ADOPT = (
    "Nothing was changed. Look at each, as the server's superuser; then drop it, move it away "
    f"(ALTER … SET SCHEMA), or make it the owner's (ALTER … OWNER TO {OWNER})."
)


def refuse_strangers(plan: ServerPlan, found: Found, what: str) -> None:
    """Raises ServerRefused if ``what`` would find things of services by a bare name."""
    there = [
        f"{thing.what} of {thing.owner}"
        for thing in sorted(found.owned)
        if thing.schema == DEFAULT_SCHEMA and thing.owner != OWNER
    ]
    if there:
        raise ServerRefused(
            plan.at,
            f"{what} would run as more than a service, and find in {quoted(DEFAULT_SCHEMA)} what "
            f"services made: {some(there)}.",
            _ADOPT,
        )
    may = {
        held.grantee or "everybody"
        for held in found.held
        if held.what == f"SCHEMA {DEFAULT_SCHEMA}" and held.privilege == "CREATE"
    } - {OWNER}
    if may:
        raise ServerRefused(
            plan.at,
            f"{what} would run as more than a service, and in {quoted(DEFAULT_SCHEMA)} may make "
            f"things: {some(may)}.",
            "Give the service a schema of its own: `schemas: {NAME: [create, usage]}`.",
        )


@asynccontextmanager
async def out_of_reach(
    connection: Connection, plan: ServerPlan, found: Found
) -> AsyncIterator[frozenset[str]]:
    """While the block runs, the owner finds nothing of services'; which schemas are not his.

    Within the transaction that is open: nobody else sees it. Raises ServerRefused.
    """
    refuse_strangers(plan, found, f"The schema file {plan.grants.schema_file}")
    await _in_no_other_role(connection)
    await _refuse_dependants(connection, plan)
    schemas = await _schemas(connection, plan.grants, found)
    for schema in schemas:
        name = identifier(schema)
        await connection.execute(
            f"ALTER SCHEMA {name} OWNER TO {identifier(OPERATOR)}; REVOKE ALL ON SCHEMA {name} "
            f"FROM PUBLIC, pg_database_owner, {identifier(OWNER)} CASCADE".encode()
        )
    rows = await connection.execute(_OPEN, [OWNER, list(schemas)])
    if left := [str(name) for (name,) in await rows.fetchall()]:
        raise WatertightError(f"{OWNER} can still look into {some(left)} at {plan.resource}.")
    yield frozenset(schemas)
    for schema, owner in schemas.items():
        await connection.execute(
            f"ALTER SCHEMA {identifier(schema)} OWNER TO {identifier(owner)}".encode()
        )


async def _in_no_other_role(connection: Connection) -> None:
    """Before PostgreSQL 16 whoever has logged in may make the owner a member of himself."""
    await connection.execute(b"LOCK TABLE pg_auth_members IN SHARE ROW EXCLUSIVE MODE")
    rows = await (await connection.execute(_MEMBER_OF, [OWNER])).fetchall()
    for (role,) in rows:
        await connection.execute(
            f"REVOKE {identifier(str(role))} FROM {identifier(OWNER)} CASCADE".encode()
        )


async def _schemas(connection: Connection, database: DatabasePlan, found: Found) -> dict[str, str]:
    """Those that are to be put out of reach → whose they are."""
    theirs: set[str] = {thing.schema for thing in found.owned if thing.owner != OWNER}
    theirs |= {schema for role in database.roles for schema in role.creates}
    rows = await connection.execute(_SCHEMAS, [list(theirs), OWNER])
    return {str(name): str(owner) for name, owner in await rows.fetchall()}


async def _refuse_dependants(connection: Connection, plan: ServerPlan) -> None:
    rows = await (await connection.execute(_DEPENDANTS.encode(), {"owner": OWNER})).fetchall()
    if rows:
        told: Iterable[str] = [f"{mine} uses {theirs} of {whose}" for mine, theirs, whose in rows]
        raise ServerRefused(
            plan.at,
            "What the schema file made is built on what services may change at any time: "
            f"{some(told)}.",
            "Nothing was changed. Drop it, as the server's superuser, and let the service that "
            "owns the thing make it.",
        )


_MEMBER_OF = """
SELECT pg_get_userbyid(roleid) FROM pg_auth_members WHERE pg_get_userbyid(member) = %s
"""
_SCHEMAS = """
SELECT nspname, pg_get_userbyid(nspowner) FROM pg_namespace
WHERE nspname = ANY(%s) OR nspowner >= 16384 AND pg_get_userbyid(nspowner) <> %s
AND nspname !~ '^pg_'
ORDER BY 1
"""
_OPEN = """
SELECT nspname FROM pg_roles r, pg_namespace n WHERE rolname = %s AND nspname = ANY(%s)
AND (has_schema_privilege(r.oid, n.oid, 'USAGE') OR has_schema_privilege(r.oid, n.oid, 'CREATE'))
ORDER BY 1
"""
# A rule, a default and the like belong to the table's owner. The server's own triggers of a foreign
# key stand on the table that is referred to: what they do is `fence`'s.
OWNERS = """
WITH owners(class, oid, owner) AS (
    SELECT 'pg_class'::regclass, oid, relowner FROM pg_class
    UNION ALL SELECT 'pg_proc'::regclass, oid, proowner FROM pg_proc WHERE oid >= 16384
    UNION ALL SELECT 'pg_type'::regclass, oid, typowner FROM pg_type
    UNION ALL SELECT 'pg_operator'::regclass, oid, oprowner FROM pg_operator WHERE oid >= 16384
    UNION ALL SELECT 'pg_opclass'::regclass, oid, opcowner FROM pg_opclass WHERE oid >= 16384
    UNION ALL SELECT 'pg_opfamily'::regclass, oid, opfowner FROM pg_opfamily WHERE oid >= 16384
    UNION ALL SELECT 'pg_collation'::regclass, oid, collowner FROM pg_collation WHERE oid >= 16384
    UNION ALL SELECT 'pg_ts_config'::regclass, oid, cfgowner FROM pg_ts_config WHERE oid >= 16384
    UNION ALL SELECT 'pg_ts_dict'::regclass, oid, dictowner FROM pg_ts_dict WHERE oid >= 16384
    UNION ALL SELECT 'pg_statistic_ext'::regclass, oid, stxowner FROM pg_statistic_ext
    UNION ALL SELECT 'pg_rewrite'::regclass, r.oid, relowner
        FROM pg_rewrite r JOIN pg_class c ON c.oid = ev_class WHERE r.oid >= 16384
    UNION ALL SELECT 'pg_trigger'::regclass, t.oid, relowner
        FROM pg_trigger t JOIN pg_class c ON c.oid = tgrelid WHERE NOT tgisinternal
    UNION ALL SELECT 'pg_attrdef'::regclass, d.oid, relowner
        FROM pg_attrdef d JOIN pg_class c ON c.oid = adrelid
    UNION ALL SELECT 'pg_policy'::regclass, p.oid, relowner
        FROM pg_policy p JOIN pg_class c ON c.oid = polrelid
    UNION ALL SELECT 'pg_constraint'::regclass, k.oid, coalesce(relowner, typowner)
        FROM pg_constraint k LEFT JOIN pg_class c ON c.oid = conrelid
        LEFT JOIN pg_type t ON t.oid = contypid WHERE k.oid >= 16384
)
"""
"""Who owns each thing that others can depend on, and each that can depend on others."""
_DEPENDANTS = f"""
{OWNERS}SELECT DISTINCT pg_describe_object(d.classid, d.objid, d.objsubid),
    pg_describe_object(d.refclassid, d.refobjid, d.refobjsubid), pg_get_userbyid(theirs.owner)
FROM pg_depend d
JOIN owners mine ON mine.class = d.classid AND mine.oid = d.objid
JOIN owners theirs ON theirs.class = d.refclassid AND theirs.oid = d.refobjid
WHERE pg_get_userbyid(mine.owner) = %(owner)s AND theirs.owner >= 16384
AND pg_get_userbyid(theirs.owner) <> %(owner)s
UNION ALL
SELECT format('table %%s', p.oid::regclass), format('partition or child %%s', c.oid::regclass),
    pg_get_userbyid(c.relowner)
FROM pg_inherits JOIN pg_class p ON p.oid = inhparent JOIN pg_class c ON c.oid = inhrelid
WHERE pg_get_userbyid(p.relowner) = %(owner)s AND c.relowner >= 16384
AND pg_get_userbyid(c.relowner) <> %(owner)s
ORDER BY 1, 2
"""  # noqa: S608 - ours
