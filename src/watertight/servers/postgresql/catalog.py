"""What a server grants now, read from its catalogs: every privilege of everybody, to the last.

PostgreSQL's own objects come with privileges (PUBLIC may call ``lower``); those are subtracted,
but for the few that let anybody write into the database.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from psycopg.rows import namedtuple_row

from watertight.servers.postgresql.admin import Connection
from watertight.servers.postgresql.compile import DatabasePlan
from watertight.servers.postgresql.declaration import OUR_SCHEMA, Kind
from watertight.servers.postgresql.fence import BODY, FENCED, KEYS

_GONE = re.compile(r"ROUTINE \d+|None")
"""What the server says of a thing that went while it looked."""
FIRST_NORMAL_OID = 16384
"""Objects below it came with the server (src/include/access/transam.h, FirstNormalObjectId)."""
PARAMETERS_SINCE = 150_000
ADVISORY_LOCKS = tuple(
    f"pg_{verb}advisory_{scope}lock{mode}"
    for verb in ("", "try_")
    for scope in ("", "xact_")
    for mode in ("", "_shared")
)
"""Functions by which one role makes another wait. Giving up one's own locks is left to all: pools
do it at the end of each session."""
OPEN_DOORS = (
    "lo_creat",
    "lo_create",
    "lo_from_bytea",
    "pg_export_snapshot",
    "pg_logical_emit_message",
    *ADVISORY_LOCKS,
)
"""Functions of the server's own by which anybody may store data (as large objects, as files, in the
write-ahead log), or hold up others; PUBLIC loses them."""
ATTRIBUTES = (
    "rolsuper",
    "rolinherit",
    "rolcreaterole",
    "rolcreatedb",
    "rolcanlogin",
    "rolreplication",
    "rolbypassrls",
)


@dataclass(frozen=True, slots=True, order=True)
class Held:
    """One privilege that one role has on one thing. ``what`` is SQL, quoted: TABLE public.t."""

    what: str
    column: str
    """Empty: the whole thing."""
    grantee: str
    """Empty: PUBLIC, which is everybody."""
    privilege: str
    grantable: bool = False


@dataclass(frozen=True, slots=True)
class FoundRole:
    """One role that did not come with the server."""

    name: str
    attributes: frozenset[str]
    connections: int
    """How many sessions it may have at once; -1: no bound."""
    limited: bool
    """It has a password or an end."""
    owns: bool
    """Something in any database belongs to it, besides what ends with its sessions."""
    elsewhere: bool
    """Something in another database mentions it."""


@dataclass(frozen=True, slots=True, order=True)
class Membership:
    """``member`` may act as ``role``."""

    role: str
    member: str
    grantor: str


@dataclass(frozen=True, slots=True, order=True)
class Owned:
    """A thing in the database that belongs to a role. ``what`` is SQL: TABLE public.t."""

    owner: str
    schema: str
    what: str


@dataclass(frozen=True, slots=True, order=True)
class Preset:
    """What sessions begin with: the settings of one row of ``pg_db_role_setting``."""

    role: str
    """Empty: everybody's."""
    database: str
    """Empty: in every database."""
    settings: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Found:
    """A whole server as it is."""

    version: int
    """180001 is 18.1."""
    database: str
    """The database as SQL: DATABASE orders."""
    owner: str
    """Whose it is."""
    roles: Mapping[str, FoundRole]
    memberships: frozenset[Membership]
    extensions: frozenset[str]
    available_extensions: frozenset[str]
    schema_files: Mapping[str, str]
    """Schema file → hash of its text when it was last run."""
    objects: Mapping[tuple[Kind, str, str], tuple[str, ...]]
    """Kind, schema, name → as SQL; several for a function's overloads."""
    columns: Mapping[str, frozenset[str]]
    """Table as SQL → its columns."""
    held: frozenset[Held]
    owned: frozenset[Owned]
    presets: frozenset[Preset]
    """Set by ALTER ROLE … SET and ALTER DATABASE … SET."""
    advisory_locks: frozenset[str]
    """The functions that take advisory locks, as SQL."""
    readable_schema: frozenset[str]
    """The views of ``information_schema`` that the standard gives to everybody, as SQL."""
    settings: tuple[str, ...] = field(default=())
    """Set by ALTER SYSTEM, past our configuration."""
    fenced: bool = False
    """What ``fence`` says is refused."""
    keys: tuple[tuple[str, str, str], ...] = ()
    """Foreign keys that ``fence`` refuses and that are there: table, name, as SQL, and whose."""


async def databases(connection: Connection) -> frozenset[str]:
    """The databases of the server."""
    return frozenset(r.datname for r in await _rows(connection, "SELECT datname FROM pg_database"))


async def read(connection: Connection, plan: DatabasePlan) -> Found:
    """Reads everything; ``connection`` is one to the plan's own database."""
    version = connection.info.server_version
    roles = {
        r.rolname: FoundRole(
            r.rolname,
            frozenset(a for a in ATTRIBUTES if getattr(r, a)),
            r.rolconnlimit,
            r.limited,
            r.owns,
            r.elsewhere,
        )
        for r in await _rows(connection, _ROLES)
    }
    (database,) = await _rows(connection, _DATABASE)
    objects: dict[tuple[Kind, str, str], list[str]] = {}
    for r in await _rows(connection, _OBJECTS):
        objects.setdefault((Kind(r.kind), r.nspname, r.name), []).append(r.what)
    columns: dict[str, set[str]] = {}
    for r in await _rows(connection, _COLUMNS):
        columns.setdefault(r.what, set()).add(r.attname)
    held = _HELD + (_HELD_PARAMETERS if version >= PARAMETERS_SINCE else "") + _HELD_END
    parameters = {
        "extensions": list(plan.extensions),
        "creators": list(plan.creators),
        "doors": list(OPEN_DOORS),
    }
    return Found(
        version=version,
        database=database.what,
        owner=database.rolname,
        roles=roles,
        memberships=frozenset(Membership(*r) for r in await _rows(connection, _MEMBERSHIPS)),
        extensions=frozenset(r.extname for r in await _rows(connection, _EXTENSIONS)),
        available_extensions=frozenset(r.name for r in await _rows(connection, _AVAILABLE)),
        schema_files=await _schema_files(connection),
        objects={key: tuple(sorted(what)) for key, what in objects.items()},
        columns={what: frozenset(names) for what, names in columns.items()},
        held=frozenset(Held(*r) for r in await _rows(connection, held, parameters)),
        owned=frozenset(Owned(*r) for r in await _rows(connection, _OWNED)),
        presets=frozenset(
            Preset(r.role, r.database, _settings(r.setconfig))
            for r in await _rows(connection, _PRESETS)
        ),
        advisory_locks=frozenset(
            r.what for r in await _rows(connection, _ROUTINES, {"names": list(ADVISORY_LOCKS)})
        ),
        readable_schema=frozenset(r.what for r in await _rows(connection, _INFORMATION_SCHEMA)),
        settings=tuple(r.name for r in await _rows(connection, _SETTINGS)),
        fenced=bool(await _rows(connection, FENCED, {"body": BODY})),
        keys=tuple((r.what, r.name, r.owner) for r in await _rows(connection, _KEYS)),
    )


async def _rows(
    connection: Connection, query: str, parameters: Mapping[str, Any] | None = None
) -> list[Any]:
    async with connection.cursor(row_factory=namedtuple_row) as cursor:
        await cursor.execute(query.encode(), parameters)
        rows = await cursor.fetchall()
    return [row for row in rows if not _GONE.fullmatch(str(getattr(row, "what", "")))]


def _settings(written: list[str]) -> tuple[tuple[str, str], ...]:
    """``name=value`` each; only the name can hold no ``=``."""
    pairs = (each.partition("=") for each in written)
    return tuple(sorted((name, value) for name, _, value in pairs))


async def _schema_files(connection: Connection) -> Mapping[str, str]:
    (known,) = await _rows(
        connection, f"SELECT to_regclass('{OUR_SCHEMA}.schema_files') IS NOT NULL AS there"
    )
    if not known.there:
        return {}
    rows = await _rows(
        connection,
        f"SELECT name, sha256 FROM {OUR_SCHEMA}.schema_files",  # noqa: S608 - ours
    )
    return {r.name: r.sha256 for r in rows}


# What a session makes for itself alone. No privilege opens it to others, it ends with the session
# (or when the server next looks, after a crash), and nobody else can alter it.
_TEMPORARY = "^pg_(temp|toast_temp)(_|$)"
_ROLES = f"""
SELECT r.rolname, {", ".join(ATTRIBUTES)}, r.rolconnlimit,
    r.rolpassword IS NOT NULL OR coalesce(r.rolvaliduntil, 'infinity') <> 'infinity' AS limited,
    EXISTS (SELECT FROM pg_shdepend d WHERE d.refclassid = 'pg_authid'::regclass
            AND d.refobjid = r.oid AND d.deptype = 'o'
            AND d.classid <> 'pg_default_acl'::regclass
            AND (d.dbid <> (SELECT oid FROM pg_database WHERE datname = current_database())
                 OR coalesce((pg_identify_object(d.classid, d.objid, d.objsubid)).schema, '')
                    !~ '{_TEMPORARY}')) AS owns,
    EXISTS (SELECT FROM pg_shdepend d WHERE d.refclassid = 'pg_authid'::regclass
            AND d.refobjid = r.oid
            AND d.dbid NOT IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
           ) AS elsewhere
FROM pg_authid r WHERE r.oid >= {FIRST_NORMAL_OID}
"""  # noqa: S608 - a number of ours
_DATABASE = """
SELECT format('DATABASE %I', datname) AS what, rolname
FROM pg_database d JOIN pg_roles r ON r.oid = d.datdba
WHERE datname = current_database()
"""
_MEMBERSHIPS = f"""
SELECT r.rolname, m.rolname AS member, coalesce(g.rolname, '') AS grantor
FROM pg_auth_members a JOIN pg_roles r ON r.oid = a.roleid JOIN pg_roles m ON m.oid = a.member
LEFT JOIN pg_roles g ON g.oid = a.grantor
WHERE a.roleid >= {FIRST_NORMAL_OID} OR a.member >= {FIRST_NORMAL_OID}
"""  # noqa: S608 - a number of ours
_EXTENSIONS = "SELECT extname FROM pg_extension"
_AVAILABLE = "SELECT name FROM pg_available_extensions"
_SETTINGS = """
SELECT DISTINCT name FROM pg_file_settings WHERE sourcefile LIKE '%/postgresql.auto.conf'
ORDER BY name
"""
_KEYS = f"""
SELECT format('TABLE %I.%I', nspname, relname) AS what, quote_ident(conname) AS name,
    pg_get_userbyid(k.relowner)::text AS owner
FROM ({KEYS}) k JOIN pg_class c ON c.oid = conrelid JOIN pg_namespace n ON n.oid = relnamespace
WHERE conparentid = 0 ORDER BY 1, 2
"""  # noqa: S608 - a query of ours
_PRESETS = """
SELECT coalesce(r.rolname, '') AS role, coalesce(d.datname, '') AS database, setconfig
FROM pg_db_role_setting LEFT JOIN pg_roles r ON r.oid = setrole
LEFT JOIN pg_database d ON d.oid = setdatabase
"""
_ROUTINES = """
SELECT format('ROUTINE %%s', p.oid::regprocedure) AS what
FROM pg_proc p WHERE pronamespace = 'pg_catalog'::regnamespace AND proname = ANY(%(names)s)
"""
# Its helpers (`_pg_…`) are for the views' owner alone.
_INFORMATION_SCHEMA = r"""
SELECT format('TABLE information_schema.%I', relname) AS what FROM pg_class
WHERE relnamespace = 'information_schema'::regnamespace AND relkind IN ('r', 'v')
AND relname !~ '^_pg_'
"""
_USERS_SCHEMAS = f"""
n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
AND n.nspname !~ '{_TEMPORARY}'
"""
_OBJECTS = f"""
SELECT 'schema' AS kind, n.nspname, '' AS name, format('SCHEMA %I', n.nspname) AS what
FROM pg_namespace n WHERE {_USERS_SCHEMAS}
UNION ALL
SELECT CASE relkind WHEN 'S' THEN 'sequence' ELSE 'table' END, n.nspname, relname,
    format('%s %I.%I', CASE relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, n.nspname, relname)
FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
WHERE relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND {_USERS_SCHEMAS}
UNION ALL
SELECT 'function', n.nspname, proname, format('ROUTINE %s', p.oid::regprocedure)
FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace WHERE {_USERS_SCHEMAS}
"""  # noqa: S608 - conditions of ours
_COLUMNS = f"""
SELECT format('TABLE %I.%I', n.nspname, relname) AS what, attname
FROM pg_attribute JOIN pg_class c ON c.oid = attrelid JOIN pg_namespace n ON n.oid = relnamespace
WHERE relkind IN ('r', 'p', 'v', 'm', 'f') AND attnum > 0 AND NOT attisdropped AND {_USERS_SCHEMAS}
"""  # noqa: S608 - conditions of ours
_OWNED = f"""
SELECT r.rolname, coalesce(o.schema, '') AS schema, CASE
    WHEN d.classid = 'pg_proc'::regclass THEN 'ROUTINE ' || d.objid::regprocedure
    WHEN o.type IN ('view', 'materialized view', 'foreign table') THEN 'TABLE ' || o.identity
    WHEN o.type = 'statistics object' THEN 'STATISTICS ' || o.identity
    ELSE upper(o.type) || ' ' || o.identity END AS what
FROM pg_shdepend d JOIN pg_authid r ON r.oid = d.refobjid,
LATERAL pg_identify_object(d.classid, d.objid, d.objsubid) o
WHERE d.refclassid = 'pg_authid'::regclass AND d.deptype = 'o' AND r.oid >= {FIRST_NORMAL_OID}
AND d.dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
AND d.classid <> 'pg_default_acl'::regclass
AND o.identity IS NOT NULL AND coalesce(o.schema, '') !~ '{_TEMPORARY}'
AND NOT EXISTS (  -- what an extension brings goes where the extension goes
    SELECT FROM pg_depend e WHERE e.classid = d.classid AND e.objid = d.objid AND e.deptype = 'e')
AND NOT EXISTS (  -- a multirange cannot be altered by itself
    SELECT FROM pg_type t WHERE d.classid = 'pg_type'::regclass AND t.oid = d.objid
    AND t.typtype = 'm')
AND NOT EXISTS (  -- a sequence goes where its column goes
    SELECT FROM pg_depend s WHERE s.classid = d.classid AND s.objid = d.objid
    AND d.classid = 'pg_class'::regclass AND s.refclassid = 'pg_class'::regclass
    AND s.deptype IN ('a', 'i') AND s.refobjsubid > 0)
"""  # noqa: S608 - a number of ours

# `%%` is how psycopg is told of one `%`.
# Per thing that has privileges: which catalog and row, how SQL calls it, whose it is, who may
# what. `acl` NULL means the defaults (manual, section 5.8), which `acldefault` spells out.
_HELD = f"""
WITH things AS (
    SELECT 'd'::"char" AS type, 'pg_database'::regclass AS class, oid, 0 AS sub,
        format('DATABASE %%I', datname) AS what, ''::name AS col, datdba AS owner, datacl AS acl,
        false AS stock
    FROM pg_database
    UNION ALL
    SELECT 'n', 'pg_namespace'::regclass, oid, 0, format('SCHEMA %%I', nspname), '', nspowner,
        nspacl, oid < {FIRST_NORMAL_OID} AND nspname <> 'public'
    FROM pg_namespace WHERE nspname !~ '{_TEMPORARY}'
    UNION ALL
    SELECT CASE relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", 'pg_class'::regclass, c.oid, 0,
        format('%%s %%I.%%I', CASE relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END,
               nspname, relname), '', relowner, relacl, c.oid < {FIRST_NORMAL_OID}
    FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
    WHERE relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND relacl IS NOT NULL
    AND nspname !~ '{_TEMPORARY}'
    UNION ALL
    SELECT 'c', 'pg_class'::regclass, c.oid, attnum, format('TABLE %%I.%%I', nspname, relname),
        attname, relowner, attacl, c.oid < {FIRST_NORMAL_OID}
    FROM pg_attribute JOIN pg_class c ON c.oid = attrelid
    JOIN pg_namespace n ON n.oid = relnamespace
    WHERE attacl IS NOT NULL AND nspname !~ '{_TEMPORARY}'
    UNION ALL
    SELECT 'f', 'pg_proc'::regclass, p.oid, 0, format('ROUTINE %%s', p.oid::regprocedure), '',
        proowner, proacl,
        p.oid < {FIRST_NORMAL_OID} AND NOT (proname = ANY(%(doors)s) AND nspname = 'pg_catalog')
    FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace
    WHERE (proacl IS NOT NULL OR p.oid >= {FIRST_NORMAL_OID} OR proname = ANY(%(doors)s))
    AND nspname !~ '{_TEMPORARY}'
    UNION ALL
    SELECT 'l', 'pg_language'::regclass, oid, 0, format('LANGUAGE %%I', lanname), '', lanowner,
        lanacl, NOT lanpltrusted
    FROM pg_language
    UNION ALL
    SELECT 'L', 'pg_largeobject'::regclass, oid, 0, format('LARGE OBJECT %%s', oid), '', lomowner,
        lomacl, false
    FROM pg_largeobject_metadata WHERE lomacl IS NOT NULL
    UNION ALL
    SELECT 't', 'pg_tablespace'::regclass, oid, 0, format('TABLESPACE %%I', spcname), '', spcowner,
        spcacl, false
    FROM pg_tablespace WHERE spcacl IS NOT NULL
    UNION ALL
    SELECT 'F', 'pg_foreign_data_wrapper'::regclass, oid, 0,
        format('FOREIGN DATA WRAPPER %%I', fdwname), '', fdwowner, fdwacl, false
    FROM pg_foreign_data_wrapper WHERE fdwacl IS NOT NULL
    UNION ALL
    SELECT 'S', 'pg_foreign_server'::regclass, oid, 0, format('FOREIGN SERVER %%I', srvname), '',
        srvowner, srvacl, false
    FROM pg_foreign_server WHERE srvacl IS NOT NULL
    UNION ALL
    SELECT defaclobjtype, 'pg_default_acl'::regclass, 0, 0,
        format('DEFAULT %%s FOR ROLE %%I', defaclobjtype, r.rolname)
            || coalesce(' IN SCHEMA ' || quote_ident(nspname), ''),
        '', defaclrole, defaclacl, defaclobjtype = 'T'
    FROM pg_default_acl JOIN pg_roles r ON r.oid = defaclrole
    LEFT JOIN pg_namespace n ON n.oid = defaclnamespace
    WHERE coalesce(nspname, '') !~ '{_TEMPORARY}'
    UNION ALL
    SELECT 'f', 'pg_default_acl'::regclass, 0, 0, format('DEFAULT f FOR ROLE %%I', rolname), '',
        r.oid, NULL, false
    FROM pg_roles r WHERE rolname = ANY(%(creators)s) AND NOT EXISTS (
        SELECT FROM pg_default_acl
        WHERE defaclrole = r.oid AND defaclnamespace = 0 AND defaclobjtype = 'f')
"""  # noqa: S608 - a number of ours
_HELD_PARAMETERS = """
    UNION ALL
    SELECT 'p', 'pg_parameter_acl'::regclass, oid, 0, format('PARAMETER %%s', parname), '',
        10::oid, paracl, false
    FROM pg_parameter_acl
"""
_HELD_END = """
), judged AS (
    -- What an extension that is declared brings along is declared with it.
    SELECT t.*, t.stock OR EXISTS (
        SELECT FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
        WHERE d.classid = t.class AND d.objid = t.oid AND d.deptype = 'e'
        AND d.refclassid = 'pg_extension'::regclass AND e.extname = ANY(%(extensions)s)
    ) AND t.type <> 'l' AS expected
    FROM things t
)
SELECT t.what, t.col, coalesce(g.rolname, ''), x.privilege_type, x.is_grantable
FROM judged t
CROSS JOIN LATERAL aclexplode(coalesce(t.acl, acldefault(t.type, t.owner))) x
LEFT JOIN pg_roles g ON g.oid = x.grantee
WHERE x.grantee <> t.owner AND NOT (t.expected AND (t.acl IS NULL OR EXISTS (
    SELECT FROM aclexplode(coalesce(
        (SELECT initprivs FROM pg_init_privs i
         WHERE i.classoid = t.class AND i.objoid = t.oid AND i.objsubid = t.sub),
        acldefault(t.type, t.owner))) b
    WHERE b.grantee = x.grantee AND b.privilege_type = x.privilege_type
    AND b.is_grantable >= x.is_grantable)))
"""
