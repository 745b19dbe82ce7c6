"""How the operator asks a server: PostgreSQL by its own client, FerretDB and the guard by their
Unix sockets. Whoever passes to where these lie may do everything (ADR 51)."""

import asyncio
import itertools
import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from watertight.enforcers.resource import ServerHost, ServerMissing, ServerPlan, ServerRefused
from watertight.errors import WatertightError
from watertight.servers.mongodb.compile import FERRETDB_SOCKET, GUARD_SOCKET, OPERATOR, OWNER
from watertight.servers.mongodb.locate import POSTGRES

SECONDS = 20.0
OP_MSG = 2013
QUIET = "SET client_min_messages TO error"
"""Notices would stand between the rows."""


class Operator:
    """One server, as its operator asks it. Raises WatertightError, also where nobody answers."""

    def __init__(self, plan: ServerPlan, host: ServerHost) -> None:
        self._plan, self._host = plan, host
        self._sockets = host.placement.server_sockets(plan.resource)

    async def sql(self, *statements: str) -> Sequence[Any]:
        """Runs them in order, each by itself; what they select, one JSON value a row."""
        psql = Path(self._host.process.argv[POSTGRES]).with_name("psql")
        done = await self._host.run(
            [
                *(str(psql), "-XAtq", "-v", "ON_ERROR_STOP=1"),
                *("-h", str(self._sockets), "-U", OPERATOR, "-d", "postgres"),
            ],
            stdin="".join(f"{one};\n" for one in (QUIET, *statements)).encode(),
        )
        if done.status:
            raise ServerRefused(self._plan.at, f"{self._plan.resource}: {done.output.strip()}")
        return [json.loads(line) for line in done.output.splitlines() if line]

    async def create(self, database: str, collection: str) -> bool:
        """Has FerretDB make a collection; false: it says that there is one."""
        answer = await self._command({"create": collection, "$db": database})
        if answer["ok"]:
            return True
        if answer.get("codeName") == "NamespaceExists":
            return False
        raise ServerRefused(
            self._plan.at, f"{self._plan.resource}: create {collection}: {answer.get('errmsg')}"
        )

    async def show_out(self, service: str) -> int:
        """Has the guard end the sessions of a service; how many."""
        try:
            async with asyncio.timeout(SECONDS):
                reader, writer = await asyncio.open_unix_connection(self._sockets / GUARD_SOCKET)
                writer.write(f"{service}\n".encode())
                answer = await reader.readline()
                writer.close()
        except (OSError, TimeoutError) as error:
            raise self._silent(error) from error
        return int(answer)

    async def _command(self, document: Mapping[str, Any]) -> Mapping[str, Any]:
        try:
            import bson  # noqa: PLC0415  only who runs such a server needs it
        except ImportError as error:
            raise ServerMissing(
                f"{self._plan.resource} needs pymongo, which is not installed.",
                remedy="Install it: pip install 'watertight[mongodb]'",
            ) from error
        login = {
            "saslStart": 1,
            "mechanism": "PLAIN",
            "$db": "$external",
            "payload": f"\0{OWNER}\0-".encode(),
        }
        answer: Mapping[str, Any] = {}
        try:
            async with asyncio.timeout(SECONDS):
                reader, writer = await asyncio.open_unix_connection(self._sockets / FERRETDB_SOCKET)
                for number, one in zip(itertools.count(1), (login, document), strict=False):
                    body = struct.pack("<IB", 0, 0) + bson.encode(one)
                    writer.write(struct.pack("<4i", 16 + len(body), number, 0, OP_MSG) + body)
                    (length,) = struct.unpack("<i", await reader.readexactly(4))
                    answer = bson.decode((await reader.readexactly(length - 4))[17:])
                writer.close()
        except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
            raise self._silent(error) from error
        return answer

    def _silent(self, error: Exception) -> WatertightError:
        return WatertightError(
            f"{self._plan.resource} does not answer its operator: {error or 'too late'}",
            remedy=self._host.log(),
        )
