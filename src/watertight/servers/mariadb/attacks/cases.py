"""What a service may do with the tables, and all else that SQL offers it, in its own session."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from watertight.attack.arena import Arena
from watertight.attack.login import Login, as_itself
from watertight.attack.probe import Observation, Probe, not_run, refused, served
from watertight.attack.session import Act, attacked, used
from watertight.attack.wire import Closed, Wire
from watertight.model.system import System
from watertight.servers.mariadb.attacks.dialect import DIALECT, MAKE, Answer, Session
from watertight.servers.mariadb.declaration import (
    CLIENT_HOST,
    COLUMN_PRIVILEGES,
    PRIVILEGES,
    Grant,
    declared,
    stated,
)

DENIED = frozenset({1044, 1045, 1095, 1142, 1143, 1148, 1227, 1290, 1370, 1410, 1577, 4166})
"""Access denied: database, user, another's session, table, column, command, privilege, option,
routine, account, events at all, files of the client's."""
AFTER = frozenset({1, 13, 29, 1051, 1054, 1072, 1085, 1086, 1126, 1136, 1146, 1305, 1312, 1539})
"""Judged after the permission: no such file, table, column, key, library …"""
NOTHING = "watertight_probe"
"""A table, view, routine or column that is not there: what is permitted does no harm. Neither does
a file that is there already, and is never written over, or one that is always empty."""


@dataclass(frozen=True, slots=True)
class Caller:
    """One declared channel."""

    system: System
    login: Login

    @property
    def database(self) -> str:
        """The declared one."""
        return declared(self.login.resource).database

    @property
    def granted(self) -> tuple[Grant, ...]:
        """What the channel grants."""
        channel = self.system.channel(self.login.service, self.login.resource.name)
        return stated(channel) if channel else ()

    def attack(self, identifier: str, attempt: str, act: Act) -> Probe:
        """A probe that must be refused, within the caller's own session."""
        return MAKE.attack(
            identifier, self.login.channel, attempt, attacked, DIALECT, self.login, act
        )

    def use(self, identifier: str, attempt: str, act: Act) -> Probe:
        """A probe that must be served."""
        return MAKE.use(identifier, self.login.channel, attempt, used, DIALECT, self.login, act)


def judged(answer: Answer) -> Observation:
    """By the number of the error, never by its text."""
    if answer.code in DENIED:
        return refused(str(answer))
    if answer.code == 0:
        return served("done")
    return served(f"permitted, but {answer}") if answer.code in AFTER else not_run(str(answer))


def says(sql: str) -> Act:
    """One statement."""

    async def act(wire: Wire) -> Observation:
        return judged(await Session(wire).query(sql))

    return act


def shows(sql: str) -> Act:
    """One query, of which each value that is no NULL is something that must not be seen."""

    async def act(wire: Wire) -> Observation:
        answer = await Session(wire).query(sql)
        if answer.code:
            return judged(answer)
        seen = [value for row in answer.rows for value in row if value is not None]
        return served(f"shows {', '.join(seen)}"[:200]) if seen else refused("shows nothing")

    return act


def statement(grant: Grant, database: str) -> str:
    """Something that takes exactly this privilege, and touches no row."""
    table, column = f"`{database}`.`{grant.table}`", f"`{grant.column or NOTHING}`"
    if grant.privilege == "select":
        return f"SELECT {column if grant.column else '1'} FROM {table} LIMIT 0"
    if grant.privilege == "insert":
        into = f"({column}) SELECT NULL" if grant.column else "SELECT 1"
        return f"INSERT INTO {table} {into} FROM DUAL WHERE 0"
    if grant.privilege == "update":
        return f"UPDATE {table} SET {column} = {'DEFAULT' if grant.column else '1'} WHERE 0"
    return f"DELETE FROM {table} WHERE 0"


def uses(caller: Caller) -> Iterator[Probe]:
    """Every permitted use."""
    yield caller.use("use.login", f"a login as {caller.login.service}", says("DO 1"))
    for grant in caller.granted:
        yield caller.use(
            f"use.{grant.privilege}", str(grant), says(statement(grant, caller.database))
        )


def grants(caller: Caller, tables: Iterable[str]) -> Iterator[Probe]:
    """Every privilege on every table that somebody has, and this service has not."""
    have = set(caller.granted)
    for table in sorted(tables):
        if Grant(table, "select") not in have:
            opened = says(f"HANDLER `{caller.database}`.`{table}` OPEN")
            yield caller.attack("grants.handler", f"table {table}, read by HANDLER", opened)
        for privilege in PRIVILEGES:
            some = {g for g in have if (g.table, g.privilege) == (table, privilege)}
            wanted = Grant(table, privilege)
            if not some:
                sql = statement(wanted, caller.database)
                yield caller.attack(f"grants.{privilege}", str(wanted), says(sql))
            elif wanted not in some and privilege in COLUMN_PRIVILEGES:
                name = f"`{caller.database}`.`{table}`"
                every = {
                    "insert": f"INSERT INTO {name} SELECT 1 FROM DUAL WHERE 0",
                    "update": f"UPDATE {name} SET `{NOTHING}` = 1 WHERE 0",
                }[privilege]
                what = f"{privilege} on table {table} past its columns"
                yield caller.attack("grants.columns", what, says(every))


def escalation(caller: Caller) -> Iterator[Probe]:
    """Ways round the grants, as a service that may run any SQL."""
    database = caller.database
    nothing = f"`{database}`.`{NOTHING}`"
    me = f"'{caller.login.service}'@'{CLIENT_HOST}'"
    other = f"`{database}`.`{NOTHING}_2`"
    nobody = f"'{NOTHING}'@'{CLIENT_HOST}'"
    server = "'mariadb.sys'@'localhost'"
    writable = [g.table for g in caller.granted if g.privilege == "insert" and not g.column]
    into = f"`{database}`.`{writable[0]}`" if writable else nothing
    mine = ", ".join(f"'{g.table}'" for g in caller.granted) or "''"
    yield from (
        caller.attack(identifier, sql[:120], says(sql))
        for identifier, sql in (
            ("escalation.alter", f"ALTER TABLE {nothing} ADD x INT"),
            ("escalation.drop", f"DROP TABLE {nothing}"),
            ("escalation.truncate", f"TRUNCATE TABLE {nothing}"),
            ("escalation.index", f"CREATE INDEX x ON {nothing} (x)"),
            ("escalation.create", f"CREATE TABLE {nothing} LIKE {other}"),
            (
                "escalation.trigger",
                f"CREATE TRIGGER {nothing} BEFORE INSERT ON {nothing} FOR EACH ROW SET @x = 1",
            ),
            (
                "escalation.definer",
                f"CREATE DEFINER = {server} VIEW {nothing} AS SELECT 1 FROM {other}",
            ),
            ("escalation.routine", f"ALTER PROCEDURE {nothing} COMMENT 'x'"),
            ("escalation.event", f"ALTER EVENT {nothing} COMMENT 'x'"),
            ("escalation.temporary-table", f"CREATE TEMPORARY TABLE {nothing} (x INT)"),
            ("escalation.lock-tables", f"LOCK TABLES {nothing} WRITE"),
            ("escalation.new-database", f"CREATE DATABASE IF NOT EXISTS `{database}`"),
            ("escalation.server-tables", "SELECT 1 FROM mysql.global_priv LIMIT 0"),
            ("escalation.our-tables", "SELECT 1 FROM watertight.schema_files LIMIT 0"),
            (
                "escalation.prepared",
                "EXECUTE IMMEDIATE 'SELECT 1 FROM mysql.global_priv LIMIT 0'",
            ),
            ("escalation.call", "CALL sys.table_exists('mysql', 'global_priv', @x)"),
            ("escalation.account", f"DROP USER IF EXISTS {nobody}"),
            ("escalation.role", f"DROP ROLE IF EXISTS `{NOTHING}`"),
            ("escalation.grant", f"GRANT SELECT ON {nothing} TO {me}"),
            ("escalation.another-account", "SHOW GRANTS FOR 'mariadb.sys'@'localhost'"),
            ("escalation.variable", "SET GLOBAL max_connections = @@max_connections"),
            ("escalation.flush", "FLUSH STATUS"),
            ("escalation.plugin", f"INSTALL PLUGIN `{NOTHING}` SONAME 'none.so'"),
            ("escalation.replication", "SHOW MASTER STATUS"),
            ("files.write", "SELECT 1 INTO OUTFILE '/etc/passwd'"),
            ("files.load", f"LOAD DATA INFILE '/dev/null' INTO TABLE {into}"),
        )
    )
    yield caller.attack("files.load-local", "LOAD DATA LOCAL INFILE", _local(into))
    yield caller.attack(
        "files.read", "LOAD_FILE('/etc/passwd')", shows("SELECT LENGTH(LOAD_FILE('/etc/passwd'))")
    )
    yield caller.attack(
        "escalation.set-role",
        "a role that it may take",
        shows("SELECT role_name FROM information_schema.applicable_roles"),
    )
    yield caller.attack(
        "escalation.information-schema",
        "tables that no grant names, in information_schema",
        shows(
            "SELECT CONCAT(table_schema, '.', table_name) FROM information_schema.tables WHERE "
            "table_schema NOT IN ('information_schema', 'performance_schema') "
            f"AND table_name NOT IN ({mine})"
        ),
    )
    for name in ("max_session_mem_used", "max_heap_table_size"):
        yield caller.attack("limits.memory", f"more {name} for itself", _raises(name))


def _local(table: str) -> Act:
    async def act(wire: Wire) -> Observation:
        answer = await Session(wire).query(f"LOAD DATA LOCAL INFILE 'x' INTO TABLE {table}")
        return served("asks for the file") if answer.wants_file else judged(answer)

    return act


def _raises(name: str) -> Act:
    """A limit of the session's own, twice as high as it is; a lower one is no attack."""

    async def act(wire: Wire) -> Observation:
        session = Session(wire)
        before = await session.query(f"SELECT @@{name}")
        set_ = await session.query(f"SET SESSION {name} = 2 * @@{name}")
        after = await session.query(f"SELECT @@{name}")
        if not before.rows or not after.rows:
            return not_run(f"{before}; {after}")
        if before.rows == after.rows:
            return refused(f"stays {after.rows[0][0]} ({set_})")
        return served(f"{before.rows[0][0]} became {after.rows[0][0]}")

    return act


def pairs(callers: Iterable[Caller]) -> Iterator[Probe]:
    """Two identities at once: what one may see and end of another's session."""
    every = list(callers)
    for one in every:
        for other in every:
            if one is not other:
                yield MAKE.attack(
                    "pairs.kill",
                    one.login.channel,
                    f"KILL of a session of {other.login.service}",
                    _kill,
                    one,
                    other,
                )
                yield MAKE.attack(
                    "pairs.processlist",
                    one.login.channel,
                    f"what {other.login.service} is doing, in the process list",
                    _watch,
                    one,
                    other,
                )


async def _kill(arena: Arena, one: Caller, other: Caller) -> Observation:
    return await _beside(arena, one, other, "KILL {}")


async def _watch(arena: Arena, one: Caller, other: Caller) -> Observation:
    asked = "SELECT user FROM information_schema.processlist WHERE id = {}"
    return await _beside(arena, one, other, asked)


async def _beside(arena: Arena, one: Caller, other: Caller, sql: str) -> Observation:
    """``sql``: with a place for the number of the other's session."""
    try:
        theirs = await as_itself(arena, DIALECT, other.login)
    except (Closed, TimeoutError) as end:
        return not_run(f"{other.login.service} itself is turned away: {end or 'no answer'}")
    try:
        answer = await Session(theirs).query("SELECT CONNECTION_ID()")
        number = answer.rows[0][0] if answer.rows else None
        if number is None:
            return not_run(f"{other.login.service} learns no number: {answer}")
        act = (says if sql.startswith("KILL") else shows)(sql.format(number))
        return await attacked(arena, DIALECT, one.login, act)
    finally:
        await theirs.close()
