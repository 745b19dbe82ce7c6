"""A running server: what is so in its PostgreSQL, and how that is changed."""

import json
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from watertight.enforcers.resource import ServerHost, ServerPlan
from watertight.servers.facts import Change, Fact, fact
from watertight.servers.kind import Part
from watertight.servers.mongodb.compile import (
    COLLECTION,
    CONFIGURATION,
    DATABASE,
    GRANT,
    OPERATOR,
    OWNER,
    PUBLIC,
    ROLE,
    SETTING,
    STRAY,
    grant_fact,
    role_fact,
)
from watertight.servers.mongodb.operator import Operator

METADATA = "_ferretdb_database_metadata"
"""FerretDB's own table in each schema: a row of JSON a collection, with the name of its table."""
_USERS = "n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'"
_WHO = "COALESCE((SELECT rolname FROM pg_roles WHERE oid = a.grantee), 'PUBLIC')"
_WHAT = "array_agg(a.privilege_type || CASE WHEN a.is_grantable THEN '*' ELSE '' END)"
ROLES = f"""
SELECT json_build_array('role', rolname, rolcanlogin,
  rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls, rolconnlimit,
  COALESCE((SELECT array_agg(c ORDER BY c) FROM pg_db_role_setting s, unnest(setconfig) c
            WHERE s.setrole = r.oid), '{{}}'),
  COALESCE((SELECT array_agg(b.rolname ORDER BY b.rolname) FROM pg_auth_members m
            JOIN pg_roles b ON b.oid = m.roleid WHERE m.member = r.oid), '{{}}'))
FROM pg_roles r WHERE rolname !~ '^pg_' AND rolname <> '{OPERATOR}'"""
SETTINGS = """
SELECT json_build_array('setting', name, 'auto') FROM pg_file_settings
WHERE sourcefile LIKE '%postgresql.auto.conf'"""
OF_DATABASES = """
SELECT DISTINCT json_build_array('setting', split_part(c, '=', 1), 'database')::jsonb
FROM pg_db_role_setting s, unnest(setconfig) c WHERE s.setrole = 0"""
SCHEMAS = f"""
SELECT json_build_array('database', nspname, pg_get_userbyid(nspowner),
  to_regclass(format('%I.%I', nspname, '{METADATA}')) IS NOT NULL)
FROM pg_namespace n WHERE {_USERS}"""
RELATIONS = f"""
SELECT json_build_array('relation', nspname, relname, pg_get_userbyid(relowner))
FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
WHERE {_USERS} AND relkind NOT IN ('i', 'I', 't') AND relname <> '{METADATA}'"""
FUNCTIONS = f"""
SELECT json_build_array('function', nspname, p.oid::regprocedure::text)
FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace WHERE {_USERS}"""
ON_RELATIONS = f"""
SELECT json_build_array('grant', {_WHO}, 'table', nspname, relname, {_WHAT})
FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace, aclexplode(relacl) a
WHERE {_USERS} AND a.grantee <> relowner GROUP BY a.grantee, nspname, relname"""
ON_COLUMNS = f"""
SELECT json_build_array('grant', {_WHO}, 'columns', nspname, relname, {_WHAT})
FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace JOIN pg_attribute ON attrelid = c.oid,
  aclexplode(attacl) a WHERE {_USERS} GROUP BY a.grantee, nspname, relname"""
ON_SCHEMAS = f"""
SELECT json_build_array('grant', {_WHO}, 'database', nspname, '', {_WHAT})
FROM pg_namespace n, aclexplode(nspacl) a
WHERE {_USERS} AND a.grantee <> nspowner GROUP BY a.grantee, nspname"""
ON_SERVER = f"""
SELECT json_build_array('grant', {_WHO}, 'server', '', '', {_WHAT})
FROM pg_database d, aclexplode(COALESCE(datacl, acldefault('d', datdba))) a
WHERE datname = current_database() AND a.grantee <> datdba GROUP BY a.grantee"""
ALL = (
    *(ROLES, SETTINGS, OF_DATABASES, SCHEMAS, RELATIONS, FUNCTIONS),
    *(ON_RELATIONS, ON_COLUMNS, ON_SCHEMAS, ON_SERVER),
)
_ON = {"server": "DATABASE", "database": "SCHEMA", "collection": "TABLE", "table": "TABLE"}


class DatabaseSession:
    """Implements :class:`~watertight.servers.kind.Session`."""

    def __init__(self, plan: ServerPlan, host: ServerHost) -> None:
        self._plan, self._host = plan, host
        self._operator = Operator(plan, host)
        self._tables: dict[tuple[str, str], str] = {}
        """(database, collection) → its table."""

    async def stale(self) -> Sequence[str]:
        """See the protocol: settings of PostgreSQL's that are not those of its file."""
        ours = self._host.placement.server_directory(self._plan.resource) / CONFIGURATION
        rows = await self._operator.sql(
            "SELECT to_json(name) FROM pg_settings WHERE pending_restart OR "
            f"(source = 'configuration file' AND sourcefile <> {_text(str(ours))} "
            "AND sourcefile NOT LIKE '%postgresql.auto.conf')"
        )
        return [f"{name} is not what PostgreSQL's file says" for name in sorted(rows)]

    async def facts(self) -> frozenset[Fact]:
        """See the protocol."""
        rows = await self._operator.sql(*ALL)
        of = await self._collections([row[1] for row in rows if row[0] == DATABASE and row[3]])
        names = {(schema, table): name for schema, name, table in of}
        relations = {(row[1], row[2]) for row in rows if row[0] == "relation"}
        self._tables = {(s, name): table for (s, table), name in names.items()}
        # What FerretDB remembers of a table that is gone is no collection.
        names = {key: name for key, name in names.items() if key in relations}
        return frozenset(made for row in rows for made in _facts(row, names))

    async def _collections(self, schemas: Sequence[str]) -> Sequence[Sequence[str]]:
        """Schema, name and table of each collection that FerretDB has noted."""
        asked = [
            f"SELECT json_build_array({_text(one)}, _jsonb->>'_id', _jsonb->>'table') "
            f"FROM {_name(one)}.{METADATA}"
            for one in schemas
        ]
        return await self._operator.sql(*asked) if asked else []

    async def execute(self, changes: Sequence[Change]) -> None:
        """See the protocol. FerretDB remembers which collections there are: it is started again
        where they changed by another hand than its own."""
        gone = [statement for c in changes if c.removes for statement in self._removal(c.thing)]
        await self._do(gone)
        again = any(c.removes and c.thing.kind in (DATABASE, COLLECTION, STRAY) for c in changes)
        if again:
            await self._again()
        comes = [change for change in changes if not change.removes]
        await self._do(s for c in comes if c.thing.kind == ROLE for s in _role(c))
        for change in comes:
            if change.thing.kind == COLLECTION and change.found is None:
                await self._create(*change.thing.key)
        databases = [c.thing.key[0] for c in comes if c.thing.kind == DATABASE]
        await self._do(
            statement
            for name in databases
            for statement in (
                f"CREATE SCHEMA IF NOT EXISTS {_name(name)} AUTHORIZATION {OWNER}",
                f"ALTER SCHEMA {_name(name)} OWNER TO {OWNER}",
            )
        )
        await self.facts()  # where the tables are
        await self._do(
            f"ALTER TABLE {self._table(*c.thing.key)} OWNER TO {OWNER}"
            for c in comes
            if c.thing.kind == COLLECTION and c.found is not None
        )
        await self._do(s for c in comes if c.thing.kind == GRANT for s in self._grant(c.thing))

    async def _do(self, statements: Iterator[str] | Sequence[str]) -> None:
        if told := list(statements):
            await self._operator.sql(*told)

    async def _again(self) -> None:
        await self._host.stop()
        await self._host.start()

    async def _create(self, database: str, name: str) -> None:
        if (database, name) in self._tables:  # remembered, and gone
            await self._do(
                [f"DELETE FROM {_name(database)}.{METADATA} WHERE _jsonb->>'_id' = {_text(name)}"]
            )
            await self._again()
        if not await self._operator.create(database, name):
            await self._again()
            await self._operator.create(database, name)

    def _table(self, schema: str, name: str) -> str:
        return f"{_name(schema)}.{_name(self._tables.get((schema, name), name))}"

    def _removal(self, thing: Fact) -> Iterator[str]:
        """What holds data stays: a collection with a document, and what is no collection."""
        if thing.kind == GRANT:
            yield from self._revoked(thing)
        elif thing.kind == ROLE:
            name = _name(thing.key[0])
            yield f"ALTER ROLE {name} NOLOGIN"
            yield from _ended(thing.key[0])
            yield f"REASSIGN OWNED BY {name} TO {OWNER}"
            yield f"DROP OWNED BY {name}"
            yield f"DROP ROLE {name}"
        elif thing.kind == COLLECTION:
            schema, name = thing.key
            yield (
                f"DO $$ BEGIN IF NOT EXISTS (SELECT FROM {self._table(schema, name)}) THEN "
                f"DROP TABLE {self._table(schema, name)}; DELETE FROM {_name(schema)}.{METADATA} "
                f"WHERE _jsonb->>'_id' = {_text(name)}; END IF; END $$"
            )
        elif thing.kind == DATABASE:
            schema = _name(thing.key[0])
            yield (
                f"DO $$ BEGIN IF to_regclass({_text(f'{schema}.{METADATA}')}) IS NULL OR NOT "
                f"EXISTS (SELECT FROM pg_class WHERE relnamespace = {_text(schema)}::regnamespace "
                f"AND relkind NOT IN ('i', 't') AND relname <> '{METADATA}') THEN "
                f"DROP TABLE IF EXISTS {schema}.{METADATA}; DROP SCHEMA {schema}; END IF; "
                "EXCEPTION WHEN dependent_objects_still_exist THEN NULL; END $$"
            )
        elif thing.kind == SETTING:
            name, where = thing.key
            of = "SYSTEM" if where == "auto" else "DATABASE postgres"
            yield f"ALTER {of} RESET {_name(name)}"
            yield "SELECT to_json(pg_reload_conf())"

    def _revoked(self, thing: Fact) -> Iterator[str]:
        who, on, schema, name = thing.key
        role = who if who == PUBLIC else _name(who)
        if on == "columns":  # those of the table take those of its columns along
            on = "table"
        yield f"REVOKE ALL ON {_ON[on]} {self._thing(on, schema, name)} FROM {role} CASCADE"

    def _grant(self, thing: Fact) -> Iterator[str]:
        who, on, schema, name = thing.key
        yield from self._revoked(thing)
        for privilege in json.loads(dict(thing.value)["privileges"]):
            what = self._thing(on, schema, name)
            yield f"GRANT {privilege} ON {_ON[on]} {what} TO {_name(who)}"

    def _thing(self, on: str, schema: str, name: str) -> str:
        if on == "server":
            return "postgres"
        return _name(schema) if on == "database" else self._table(schema, name)

    async def take(self, _part: Part) -> None:
        """See the protocol: it takes nothing by a command."""

    async def kick(self, service: str) -> int:
        """See the protocol. The guard asks PostgreSQL of everybody who comes, so first nobody more
        comes; then who is there is shown out."""
        known = await self._operator.sql(
            f"SELECT to_json(rolname) FROM pg_roles WHERE rolname = {_text(service)}"
        )
        if known:
            await self._do([f"ALTER ROLE {_name(service)} NOLOGIN", *_ended(service)])
        return await self._operator.show_out(service)


def _ended(role: str) -> Iterator[str]:
    yield (
        # Without waiting for each: PostgreSQL looks only ten times a second whether one has ended.
        "SELECT to_json(pg_terminate_backend(pid)) FROM pg_stat_activity "
        f"WHERE usename = {_text(role)}"
    )


def _facts(row: Sequence[Any], names: Mapping[tuple[str, str], str]) -> Iterator[Fact]:
    kind, *rest = row
    if kind == ROLE:
        name, login, powers, connections, settings, member_of = rest
        yield role_fact(
            name,
            login=login,
            powers=powers,
            connections=connections,
            settings=settings,
            member_of=member_of,
        )
    elif kind == SETTING:
        yield fact(SETTING, rest)
    elif kind == DATABASE:
        yield fact(DATABASE, rest[:1], owner=rest[1])
    elif kind == "relation":
        schema, table, owner = rest
        if (schema, table) in names:
            yield fact(COLLECTION, [schema, names[schema, table]], owner=owner)
        else:
            yield fact(STRAY, [schema, table])
    elif kind == "function":
        yield fact(STRAY, rest)
    else:
        who, on, schema, name, privileges = rest
        if on == "table" and (schema, name) in names:
            on, name = "collection", names[schema, name]
        yield grant_fact(who, on, schema, name, sorted(privileges))


def _role(change: Change) -> Iterator[str]:
    role = _name(change.thing.key[0])
    if change.found is None:
        yield f"CREATE ROLE {role}"
    else:
        yield f"ALTER ROLE {role} RESET ALL"
        yield f"ALTER ROLE {role} IN DATABASE postgres RESET ALL"
        yield (
            "DO $$ DECLARE of text; BEGIN FOR of IN SELECT b.rolname FROM pg_auth_members m "
            "JOIN pg_roles b ON b.oid = m.roleid JOIN pg_roles r ON r.oid = m.member "
            f"WHERE r.rolname = {_text(change.thing.key[0])} LOOP "
            f"EXECUTE format('REVOKE %I FROM %I', of, {_text(change.thing.key[0])}); "
            "END LOOP; END $$"
        )
    yield (
        f"ALTER ROLE {role} LOGIN NOSUPERUSER NOCREATEROLE NOCREATEDB NOREPLICATION NOBYPASSRLS "
        "CONNECTION LIMIT -1"
    )


def _name(value: str) -> str:
    return '"' + value.replace('"', '""') + '"'


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


@asynccontextmanager
async def session(plan: ServerPlan, host: ServerHost) -> AsyncIterator[DatabaseSession]:
    """The server; it listens once all of it answers."""
    yield DatabaseSession(plan, host)
