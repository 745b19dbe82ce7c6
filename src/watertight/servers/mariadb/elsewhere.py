"""Accounts and grants at a server that others run, as its administrator.

Only the accounts of our services are touched, and the declared database is made where it is
missing: what else is there is not ours to judge. Asked with MariaDB's own client, over TLS.
"""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from watertight.enforcers.resource import AdminRefused, ServerMissing
from watertight.errors import WatertightError
from watertight.model.system import Resource, System
from watertight.servers.facts import Change, Fact, fact
from watertight.servers.kind import Part
from watertight.servers.mariadb import accounts
from watertight.servers.mariadb.accounts import Accounts
from watertight.servers.mariadb.compile import DATABASE, grants_of
from watertight.servers.mariadb.session import CLIENT, WAIT

FORM = "mysql://USER@HOST:PORT?ca=FILE[&cert=FILE&key=FILE]"
PASSWORD = "MARIADB_ADMIN_PASSWORD"  # noqa: S105 - the variable's name
PORT = 3306
TIMEOUT_SECONDS = 60.0
LOOK = (("'database', schema_name", "information_schema.schemata"), *accounts.LOOK)


class Elsewhere(Accounts):
    """Implements :class:`~watertight.servers.kind.Session` for a server of others."""

    def __init__(
        self,
        argv: Sequence[str],
        environment: Mapping[str, str],
        system: System,
        resource: Resource,
    ) -> None:
        super().__init__(grants_of(system, resource))
        self._argv, self._environment = argv, environment
        self._services = frozenset(system.services)

    async def ask(self, sql: str, *options: str) -> str:
        """See ``Accounts``."""
        process = await asyncio.create_subprocess_exec(
            *self._argv,
            *options,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self._environment,
        )
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                output, said = await process.communicate(sql.encode())
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode:
            raise WatertightError(said.decode(errors="replace").strip() or "It gives no reason.")
        return output.decode()

    async def stale(self) -> Sequence[str]:
        """See the protocol: accounts that come before ours, of whoever knows a password."""
        found = await self.rows(("User, Host", "mysql.global_priv"))
        odd = sorted((u, h) for u, h in found if h != self._wanted.host and self._is_before(u, h))
        return [f"it has the account {user or 'without a name'} at {host}" for user, host in odd]

    def _is_before(self, user: str, host: str) -> bool:
        """A server takes the account with the nearest host; ``''`` is a role."""
        return bool(host) and (user == "" or user in {a.name for a in self._wanted.accounts})

    async def facts(self) -> frozenset[Fact]:
        """See the protocol: only those of the resource."""
        return frozenset(made for row in await self.rows(*LOOK) for made in self._facts(row))

    def _facts(self, row: list[Any]) -> Iterator[Fact]:
        if row[0] == DATABASE:
            if row[1] == self._wanted.database:
                yield fact(DATABASE, row[1:])
            return
        for one in self.of_account(row):
            if one.key[0] in self._services and one.key[1] == self._wanted.host:
                yield one

    async def execute(self, changes: Sequence[Change]) -> None:
        """See the protocol."""
        gone = [s for change in changes if change.removes for s in self.taken(change.thing)]
        if gone:
            await self.do([*gone, "FLUSH PRIVILEGES"])
        comes = (change for change in changes if not change.removes)
        await self.do([statement for change in comes for statement in self.made(change)])

    async def take(self, _part: Part) -> None:
        """It is not ours to tell."""
        raise NotImplementedError

    async def kick(self, _service: str) -> int:
        """It is not ours to tell."""
        raise NotImplementedError


@asynccontextmanager
async def session(system: System, resource: Resource, admin: str) -> AsyncIterator[Elsewhere]:
    """``admin``: see :data:`FORM`; a password is in the environment, as ``MARIADB_ADMIN_PASSWORD``.

    Raises AdminRefused for another, ServerMissing where there is no client here.
    """
    options = _administrator(admin)
    client = shutil.which(CLIENT)
    if client is None:
        raise ServerMissing(
            f"There is no `{CLIENT}` here, which asks the server of {resource.name}.",
            remedy="Install it: apt-get install mariadb-client.",
        )
    argv = (
        *(client, "--no-defaults", "--batch", "--raw", "--skip-column-names", "--sandbox"),
        *("--default-character-set=utf8mb4", f"--init-command={WAIT}", *options),
    )
    environment = {"PATH": os.defpath, "MYSQL_PWD": os.environ.get(PASSWORD, "")}
    yield Elsewhere(argv, environment, system, resource)


def _administrator(admin: str) -> list[str]:
    """The options of the client. It proves who the server is, or does not log in."""
    try:
        url = urlsplit(admin)
        port, said = url.port or PORT, dict(parse_qsl(url.query, strict_parsing=bool(url.query)))
    except ValueError as error:
        raise AdminRefused(f"That is no URL: {error}.", remedy=f"Say `{FORM}`.") from None
    if url.password is not None:
        raise AdminRefused(
            "A password in the command is seen by everybody on this machine.",
            remedy=f"Leave it out, and put it into the environment, as {PASSWORD}.",
        )
    fits = url.scheme == "mysql" and url.hostname and url.username and url.path in ("", "/")
    if not fits or not {"ca"} <= said.keys() <= {"ca", "cert", "key"}:
        raise AdminRefused("That is no way to a server.", remedy=f"Say `{FORM}`.")
    if absent := [name for name in said.values() if not Path(name).is_file()]:
        raise AdminRefused(f"There is no file {absent[0]}.", remedy="Name files of PEM.")
    papers = [f"--ssl-{name}={Path(file).absolute()}" for name, file in said.items()]
    return [
        f"--host={url.hostname}",
        f"--port={port}",
        f"--user={unquote(str(url.username))}",
        "--protocol=TCP",
        "--ssl",
        "--ssl-verify-server-cert",
        *papers,
    ]
