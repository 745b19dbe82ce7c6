"""Our own way into a server: its Unix socket, by the kernel's word on who we are."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeAlias

import psycopg
from psycopg.rows import TupleRow

from watertight.enforcers.resource import ServerHost, ServerPlan
from watertight.errors import WatertightError
from watertight.servers.postgresql.compile import OPERATOR

Connection: TypeAlias = psycopg.AsyncConnection[TupleRow]

MAINTENANCE = "postgres"
"""A database that every server has."""
CONNECT_SECONDS = 5
STARTING_SECONDS = 30.0
LOCK_TIMEOUT = "500ms"
"""While we wait for a lock, all who come later wait behind us. So we ask again, many times."""
OPTIONS = (
    f"-c search_path=pg_catalog,pg_temp -c lock_timeout={LOCK_TIMEOUT} -c jit=off "
    "-c statement_timeout=0 -c idle_in_transaction_session_timeout=0"
)
"""Nothing of the users' shadows what we call; a busy table makes us fail, not hang; and what is
asked once is not worth compiling."""
POLL_SECONDS = 0.02
_STARTING = (
    "starting up",
    "not yet accepting",
    "No such file",
    "Connection refused",
    "recovery",
    "closed the connection unexpectedly",
    "administrator command",
)
"""What libpq says of a server that will be there soon (the server's messages are in English): also
one whose sessions have just ended because one of its processes did."""


class NotLetIn(WatertightError):
    """A server that runs, and refuses its operator."""


def socket_port(plan: ServerPlan, host: ServerHost) -> int:
    """Under which port's name the server's socket stands: that of before, if it changes now."""
    directory = host.placement.server_sockets(plan.resource)
    if _socket(directory, plan.port).exists():
        return plan.port
    there = (path.name.rpartition(".")[2] for path in directory.glob(".s.PGSQL.*"))
    return next((int(port) for port in there if port.isdecimal()), plan.port)


def _socket(directory: Path, port: int) -> Path:
    return directory / f".s.PGSQL.{port}"


@asynccontextmanager
async def administer(
    plan: ServerPlan, host: ServerHost, database: str = MAINTENANCE
) -> AsyncIterator[Connection]:
    """A session of the superuser, in autocommit; of a server that is just starting, once it has.

    Raises WatertightError if there is none, or if the server breaks it off.
    """
    try:
        connection = await _connect(plan, host, database)
    except psycopg.Error as error:
        if not _is_starting(error):
            raise unreachable(plan, error) from error
        await until_ready(plan, host, STARTING_SECONDS)
        connection = await _connect(plan, host, database)
    try:
        yield connection
    except psycopg.OperationalError as error:
        raise WatertightError(
            f"The server of {plan.resource} did not do it: {_words(error)}",
            remedy="Look at its log, and try again.",
        ) from error
    finally:
        await connection.close()


def _words(error: psycopg.Error) -> str:
    return " ".join(str(error).split())


def unreachable(plan: ServerPlan, error: psycopg.Error) -> NotLetIn:
    """We do not get in, in the server's words."""
    return NotLetIn(
        f"The server of {plan.resource} does not let its operator in: {_words(error)}",
        remedy="Look at its log; `watertight up` starts it again.",
    )


async def _connect(plan: ServerPlan, host: ServerHost, database: str) -> Connection:
    """What libpq would else take from the environment is given; a password, nobody asks for."""
    return await psycopg.AsyncConnection.connect(
        host=str(host.placement.server_sockets(plan.resource)),
        hostaddr="",
        port=socket_port(plan, host),
        dbname=database,
        user=OPERATOR,
        options=OPTIONS,
        sslmode="disable",
        gssencmode="disable",
        application_name="watertight",
        connect_timeout=CONNECT_SECONDS,
        autocommit=True,
        prepare_threshold=None,
    )


def _is_starting(error: psycopg.Error) -> bool:
    return any(words in str(error) for words in _STARTING)


async def until_ready(plan: ServerPlan, host: ServerHost, seconds: float) -> None:
    """Returns once the server takes commands: it accepts connections before that."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            await (await _connect(plan, host, MAINTENANCE)).close()
        except psycopg.Error as error:
            soon = _is_starting(error) and await host.running()
            if not soon or time.monotonic() > deadline:
                raise unreachable(plan, error) from error
            await asyncio.sleep(POLL_SECONDS)
        else:
            return
