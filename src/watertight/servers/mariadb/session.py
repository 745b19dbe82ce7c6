"""A running server, asked by its own command line client over its Unix socket."""

# ruff: noqa: S608 - all that stands in a statement is a literal or an identifier, quoted

import asyncio
import contextlib
import hashlib
import re
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from watertight.enforcers.resource import ServerHost, ServerPlan, ServerRefused
from watertight.errors import WatertightError
from watertight.servers.facts import Change, Fact, fact
from watertight.servers.kind import Part
from watertight.servers.mariadb import accounts, definitions
from watertight.servers.mariadb import compile as wanted
from watertight.servers.mariadb.accounts import Accounts, delete
from watertight.servers.mariadb.compile import (
    ACCOUNT,
    DATABASE,
    DEFINITION,
    FUNCTION,
    GRANT,
    PLUGIN,
    RECORD,
    SCHEMA,
    identifier,
    literal,
    who,
)
from watertight.servers.mariadb.declaration import CLIENT_HOST, OUR_DATABASE

CLIENT = "mariadb"
WAIT = "SET lock_wait_timeout = 20"
"""A service that leaves a transaction open makes us fail, not hang."""
READY_SECONDS, KILL_SECONDS, POLL_SECONDS = 30.0, 3.0, 0.02
_HEX = re.compile(r"X'[0-9A-Fa-f]*'(,X'[0-9A-Fa-f]*')?(,[0-9]+)?")
_NOT_YET = "ERROR 2002"
"""The client's own: nobody listens on the socket (CR_CONNECTION_ERROR)."""
_SYSTEM = ", ".join(map(literal, wanted.SYSTEM_DATABASES))
LOOK = (
    (
        "'database', schema_name",
        f"information_schema.schemata WHERE schema_name NOT IN ({_SYSTEM})",
    ),
    *accounts.LOOK,
    ("'plugin', plugin_name", "information_schema.plugins WHERE plugin_library IS NOT NULL"),
    ("'plugin', name", "mysql.plugin"),
    ("'loaded function', name", "mysql.func"),
    (
        "'set', variable_name",
        "information_schema.system_variables WHERE global_value_origin = 'SQL'",
    ),
    (
        "'ours', table_name",
        f"information_schema.tables WHERE table_schema = '{OUR_DATABASE}'",
    ),
    *definitions.LOOK,
)
"""What is asked: a kind and what tells of it; and where that stands."""
OURS = f"""\
CREATE DATABASE IF NOT EXISTS {OUR_DATABASE};
CREATE TABLE IF NOT EXISTS {OUR_DATABASE}.schema_files
(name VARCHAR(700) CHARACTER SET ascii PRIMARY KEY, sha256 CHAR(64) NOT NULL);
"""


class DatabaseSession(Accounts):
    """Implements :class:`~watertight.servers.kind.Session`."""

    def __init__(self, plan: ServerPlan, host: ServerHost) -> None:
        super().__init__(plan.grants, host.user)
        self._plan, self._host = plan, host

    async def stale(self) -> Sequence[str]:
        """See the protocol: variables that somebody has set (their origin is SQL)."""
        return sorted(f"{row[1].lower()} was set by hand" for row in await self._look("set"))

    async def facts(self) -> frozenset[Fact]:
        """See the protocol."""
        rows = await self._look()
        found = {made for row in rows for made in self._facts(row)}
        if ["ours", definitions.NAME] in rows:
            found.add(definitions.recorded(await self.rows(definitions.LOOK_AT_RECORD)))
        if self._wanted.schema_file:
            applied = await self._applied(self._wanted.schema_file)
            found |= (
                {fact(SCHEMA, [self._wanted.schema_file], applied=applied)} if applied else set()
            )
        return frozenset(found)

    def _facts(self, row: list[Any]) -> Iterator[Fact]:
        kind, *rest = row
        if kind in (DATABASE, PLUGIN, FUNCTION):
            yield fact(kind, rest)
        elif kind == DEFINITION:
            yield definitions.definition(*rest)
        else:
            yield from self.of_account(row)

    async def execute(self, changes: Sequence[Change]) -> None:
        """See the protocol."""
        gone = [change for change in changes if change.removes]
        if gone:
            statements = [s for change in gone for s in await self._removal(change.thing)]
            await self.do([*statements, "FLUSH PRIVILEGES"])
        comes = [change for change in changes if not change.removes]
        await self._make(c for c in comes if c.thing.kind == DATABASE)
        again = [change for change in comes if change.thing.kind == DEFINITION]
        await self.do([definitions.drop(c.found) for c in again if c.found])
        if again or any(change.thing.kind in (SCHEMA, RECORD) for change in comes):
            await self._run_schema()
        await self._make(c for c in comes if c.thing.kind in (ACCOUNT, GRANT))

    async def _make(self, changes: Iterable[Change]) -> None:
        await self.do([statement for change in changes for statement in self.made(change)])

    async def _removal(self, gone: Fact) -> list[str]:
        key = gone.key
        if gone.kind == PLUGIN:
            unloaded = f"UNINSTALL PLUGIN IF EXISTS {identifier(key[0])}"
            return [unloaded, delete("plugin", ["name"], key)]
        if gone.kind == FUNCTION:
            unloaded = f"DROP FUNCTION IF EXISTS {identifier(key[0])}"
            return [unloaded, delete("func", ["name"], key)]
        if gone.kind == DEFINITION:
            return [definitions.drop(gone)]
        if gone.kind == DATABASE:  # what it holds is somebody's
            where = f"information_schema.tables WHERE table_schema = {literal(key[0])}"
            holds = await self.ask(f"SELECT COUNT(*) FROM {where}")
            return [f"DROP DATABASE {identifier(key[0])}"] if holds.strip() == "0" else []
        return self.taken(gone)

    async def take(self, _part: Part) -> None:
        """See the protocol: certificate, key and roots are read again; all sessions go on."""
        await self.ask("FLUSH SSL")

    async def kick(self, service: str) -> int:
        """See the protocol."""
        theirs = f"information_schema.processlist WHERE user = {literal(service)}"
        count = f"SELECT COUNT(*) FROM {theirs}"
        ended = int(
            await self.ask(f"{count}; DROP USER IF EXISTS {who((service, CLIENT_HOST))}") or 0
        )
        deadline = time.monotonic() + KILL_SECONDS
        while left := (await self.ask(f"SELECT id FROM {theirs}")).split():
            if time.monotonic() > deadline:  # a regular expression heeds no KILL, for hours
                await self._host.stop()
                await self._host.start()
                await until_up(self._plan, self._host)
                break
            for number in left:
                with contextlib.suppress(WatertightError):  # it has ended by itself
                    await self.ask(f"KILL {int(number)}")
            await asyncio.sleep(POLL_SECONDS)
        await roll_back_detached(self._plan, self._host)
        return ended

    # --- the schema file -----------------------------------------------------------------------

    def _text(self, name: str) -> str:
        try:
            return (self._host.placement.project_directory / name).read_text()
        except (OSError, UnicodeDecodeError) as error:
            reason = (error.strerror if isinstance(error, OSError) else None) or "it is not UTF-8"
            raise ServerRefused(
                self._plan.at, f"The schema file {name} cannot be read: {reason}."
            ) from error

    async def _applied(self, name: str) -> bool:
        """Whether it ran as it stands; where no person asks, whether any of its kind ever ran."""
        if not await self._look("ours"):
            return False
        table = f"{OUR_DATABASE}.schema_files WHERE name = {literal(name)}"
        ran = (await self.ask(f"SELECT sha256 FROM {table}")).strip()
        return ran == _digest(self._text(name)) or bool(ran and not self._host.anew)

    async def _run_schema(self) -> None:
        """Where there is one; then what there is is right. Last it is noted that it ran: who is
        interrupted before that runs it again."""
        name, noted = self._wanted.schema_file, []
        if name:
            text = self._text(name)
            await self._run(name, text)
            values = f"({literal(name)}, {literal(_digest(text))})"
            noted = [f"REPLACE INTO {OUR_DATABASE}.schema_files VALUES {values}"]
        await self.do([OURS, *definitions.keep(), *noted])

    async def _run(self, name: str, text: str) -> None:
        try:
            await self.ask(text, f"--database={self._wanted.database}")
        except WatertightError as error:
            raise ServerRefused(
                self._plan.at,
                f"{name}: {error}",
                "What stands before that line has been done: write the file so that it can run "
                "again (CREATE … IF NOT EXISTS).",
            ) from error

    # --- asking --------------------------------------------------------------------------------

    async def _look(self, *kinds: str) -> list[list[Any]]:
        return await self.rows(*(p for p in LOOK if not kinds or p[0].split("'")[1] in kinds))

    async def ask(self, sql: str, *options: str) -> str:
        """See ``Accounts``."""
        return await ask(self._plan, self._host, sql, *options)


async def ask(plan: ServerPlan, host: ServerHost, sql: str, *options: str) -> str:
    """What the server answers its operator. Raises WatertightError with the server's words."""
    socket = wanted.socket(host.placement, plan.resource)
    fixed = ("--no-defaults", f"--socket={socket}", f"--user={host.user}", "--batch", "--raw")
    more = (
        "--skip-column-names",
        "--default-character-set=utf8mb4",
        "--sandbox",
        f"--init-command={WAIT}",
    )
    argv = (CLIENT, *fixed, *more, *options)
    done = await host.run(argv, stdin=sql.encode())
    if done.status:
        lines = [line for line in done.output.splitlines() if line.startswith("ERROR")]
        said = (lines or [done.output.strip() or "it gives no reason"])[0]
        raise WatertightError(said, remedy=f"The end of its log:\n{host.log()}")
    return done.output


async def roll_back_detached(plan: ServerPlan, host: ServerHost) -> None:
    """Ends prepared transactions whose session has ended.

    Each holds its locks for ever, also of a service that was revoked meanwhile, and any service may
    commit it: no privilege closes that.
    """
    for line in (await ask(plan, host, "XA RECOVER FORMAT='SQL'")).splitlines():
        with contextlib.suppress(WatertightError):  # of a session that is there: it may go on
            await ask(plan, host, f"XA ROLLBACK {xid_of(line)}")


def xid_of(line: str) -> str:
    """A transaction's identifier, which a service has chosen, as SQL that holds nothing else. Pure.

    ``line``: format, two lengths and, of printable characters, the identifier in quotes, within
    which quotes are not escaped; of others it is hexadecimal already.
    """
    number, first, second, said = line.split("\t", 3)
    if _HEX.fullmatch(said):
        return said
    parts = said[1:][: int(first)], said[1 + int(first) + len("','") :][: int(second)]
    return ", ".join([*(f"X'{part.encode().hex()}'" for part in parts), str(int(number))])


async def until_up(plan: ServerPlan, host: ServerHost) -> None:
    """Returns once the server answers. Raises WatertightError."""
    deadline = time.monotonic() + READY_SECONDS
    while True:
        try:
            await ask(plan, host, "SELECT 1")
            break
        except WatertightError as error:
            if not str(error).startswith(_NOT_YET) or time.monotonic() > deadline:
                raise
        await asyncio.sleep(POLL_SECONDS)


@asynccontextmanager
async def session(plan: ServerPlan, host: ServerHost) -> AsyncIterator[DatabaseSession]:
    """The server, also one that has just been started."""
    await until_up(plan, host)
    yield DatabaseSession(plan, host)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
