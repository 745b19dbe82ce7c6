"""Has a running server take new files, and looks that it did: a failed reload is only logged."""

import asyncio
import datetime as dt
import signal
import time
from pathlib import Path

from watertight.enforcers.resource import ServerHost, ServerPlan
from watertight.errors import WatertightError
from watertight.servers.postgresql.admin import POLL_SECONDS, administer, until_ready
from watertight.servers.served import look_at_leaf, until_content

DEADLINE_SECONDS = 10.0
SSL_REQUEST = bytes.fromhex("0000000804d2162f")
"""Manual, section 55.7: length 8, code 80877103."""
_NOT_TAKEN = "SSL configuration was not reloaded"
"""The server's own words (src/backend/postmaster/postmaster.c); its messages are in English."""


async def reload(plan: ServerPlan, host: ServerHost) -> None:
    """Has the server read its configuration and certificates; restarts it if only that helps.

    Raises WatertightError if the server does not take them.
    """
    before = await _loaded(plan, host)
    told, heard = _complaints(host), set[str]()
    deadline = time.monotonic() + DEADLINE_SECONDS
    await host.signal(signal.SIGHUP)
    while await _loaded(plan, host) <= before:
        heard |= _complaints(host)
        if time.monotonic() > deadline:
            raise WatertightError(
                f"The server of {plan.resource} did not reload within {DEADLINE_SECONDS:g} s.",
                remedy=host.log(),
            )
        await asyncio.sleep(POLL_SECONDS)
    async with administer(plan, host) as connection:
        wrong = await (await connection.execute(_ERRORS)).fetchall()
        restart = await (await connection.execute(_RESTART)).fetchall()
    if wrong:
        raise WatertightError(
            f"The server of {plan.resource} refuses its configuration: "
            + "; ".join(f"{Path(file).name}:{line}: {error}" for file, line, error in wrong)
        )
    if complaints := (heard | _complaints(host)) - told:
        raise WatertightError(
            f"The server of {plan.resource} refuses its certificates: {min(complaints)}",
            remedy="It serves the ones of before.",
        )
    if restart:
        await host.stop()
        await host.start()
        await until_ready(plan, host, host.process.start_seconds)


async def _loaded(plan: ServerPlan, host: ServerHost) -> dt.datetime:
    async with administer(plan, host) as connection:
        row = await (await connection.execute("SELECT pg_conf_load_time()")).fetchone()
    if row is None:
        raise AssertionError("a SELECT without FROM gives one row")
    loaded: dt.datetime = row[0]
    return loaded


def _complaints(host: ServerHost) -> set[str]:
    """Each line has its own time, so that an old one is not taken for a new one."""
    return {line for line in host.log().splitlines() if _NOT_TAKEN in line}


async def rotate(plan: ServerPlan, host: ServerHost) -> None:
    """Has the server use the new credential files; established sessions go on.

    The reload is asked for again until the leaf of the file is the one that is served: the files
    may be swapped between the server's reading of one and the next. Raises WatertightError.
    """

    async def reload_and_look() -> None:
        await reload(plan, host)
        await look_at_leaf(plan, host, ask_for_tls)

    await until_content(reload_and_look)


async def ask_for_tls(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The SSLRequest that comes before TLS (manual, section 55.2.10)."""
    writer.write(SSL_REQUEST)
    answer = await reader.readexactly(1)
    if answer != b"S":
        raise ConnectionError(f"it answered {answer!r} to the request for TLS")


_RESTART = "SELECT name FROM pg_settings WHERE pending_restart"
_ERRORS = """
SELECT sourcefile, sourceline, error FROM pg_file_settings f WHERE error IS NOT NULL
AND NOT EXISTS (SELECT FROM pg_settings s WHERE s.name = f.name AND s.pending_restart)
UNION ALL
SELECT current_setting('hba_file'), line_number, error FROM pg_hba_file_rules
WHERE error IS NOT NULL
UNION ALL
SELECT current_setting('ident_file'), line_number, error FROM pg_ident_file_mappings
WHERE error IS NOT NULL
"""
