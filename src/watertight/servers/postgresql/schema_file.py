"""Runs the schema file: the declaration's own SQL, with the rights of the database's owner.

It runs inside a function that belongs to the owner. There it can neither become somebody else
(PostgreSQL refuses SET ROLE within such a function) nor end our transaction, so a file that
fails half way has done nothing.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import psycopg
from psycopg import errors

from watertight.enforcers.resource import ServerPlan, ServerRefused
from watertight.errors import WatertightError
from watertight.servers.postgresql.admin import Connection
from watertight.servers.postgresql.catalog import Found
from watertight.servers.postgresql.compile import OWNER, DatabasePlan
from watertight.servers.postgresql.declaration import DEFAULT_SCHEMA, OUR_SCHEMA
from watertight.servers.postgresql.dependants import (
    Dependant,
    advice,
    dependants,
    may_be_kept,
)
from watertight.servers.postgresql.reach import out_of_reach
from watertight.servers.postgresql.steps import identifier
from watertight.servers.postgresql.told import cut

_TRANSACTION_STATEMENT = "0A000"
"""feature_not_supported: what EXECUTE says to BEGIN, COMMIT, VACUUM."""
_ABOUT_DATA = {"22", "23", "P0"}
"""Classes: data exceptions, violated constraints, what functions raise."""
_DENIED = "42501"
_ALREADY_THERE = {"42P06", "42P07", "42710", "42723", "42701"}
"""duplicate_schema, _table, _object, _function, _column."""


def schema_text(plan: ServerPlan, project: Path) -> str | None:
    """The text of the schema file; None: none is declared. Raises WatertightError."""
    database: DatabasePlan = plan.grants
    if database.schema_file is None:
        return None
    try:
        return (project / database.schema_file).read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or "it is not UTF-8"
        raise ServerRefused(
            plan.at, f"The schema file {database.schema_file} cannot be read: {reason}."
        ) from error


def digest(text: str) -> str:
    """By what we know whether a file changed."""
    return hashlib.sha256(text.encode()).hexdigest()


def is_applied(found: Found, database: DatabasePlan, text: str | None) -> bool:
    """Whether the file as it stands was the last to run."""
    if database.schema_file is None or text is None:
        return True
    return found.schema_files.get(database.schema_file) == digest(text)


def to_run(found: Found, database: DatabasePlan, text: str | None, *, anew: bool) -> bool:
    """Whether the file is to run: a person asks and it is another one, or none ever ran."""
    if is_applied(found, database, text):
        return False
    return anew or database.schema_file not in found.schema_files


async def run_schema_file(
    connection: Connection, plan: ServerPlan, text: str, found: Found
) -> None:
    """Runs the file in the transaction that is open. Raises :class:`ServerRefused`.

    ``found``: what there is, within the transaction.
    """
    database: DatabasePlan = plan.grants
    async with out_of_reach(connection, plan, found) as theirs:
        await connection.execute(_RUNNER)
        try:
            async with connection.transaction():  # after an error, we still have a question
                await connection.execute("SELECT pg_temp.run_schema_file(%s)", [text])
        except (errors.LockNotAvailable, errors.DeadlockDetected):
            raise  # says nothing of the file: it is tried again
        except psycopg.Error as error:
            keep = await dependants(connection) if may_be_kept(error) else []
            raise _refused(plan, text, error, theirs, keep) from error
        await connection.execute("DROP FUNCTION pg_temp.run_schema_file")
    await connection.execute(
        f"INSERT INTO {OUR_SCHEMA}.schema_files VALUES (%s, %s) "  # noqa: S608 - ours
        "ON CONFLICT (name) DO UPDATE SET sha256 = EXCLUDED.sha256, at = now()".encode(),
        [database.schema_file, digest(text)],
    )


def _refused(
    plan: ServerPlan,
    text: str,
    error: psycopg.Error,
    theirs: frozenset[str],
    keep: Sequence[Dependant],
) -> WatertightError:
    said = error.diag
    where = str(plan.grants.schema_file)
    if said.internal_position and said.internal_query == text:
        where += f":{text[: int(said.internal_position) - 1].count(chr(10)) + 1}"
    remedy = said.message_hint or "Nothing was changed."
    detail = "" if _tells_rows(error) else " ".join((said.message_detail or "").splitlines())
    if keep:
        remedy = advice(keep, detail)
    elif error.sqlstate == _TRANSACTION_STATEMENT and not detail:
        remedy = (
            "The file runs inside the server, in one transaction of ours: without BEGIN, COMMIT, "
            "VACUUM, COPY … FROM stdin and the like."
        )
    elif error.sqlstate in _ALREADY_THERE:
        remedy = (
            "The whole file runs each time that it changed: write it so that it can "
            "(CREATE … IF NOT EXISTS)."
        )
    elif theirs and any(_of_schema(error, schema) for schema in theirs):
        remedy = (
            "Services make things of their own there, so that the file cannot look into it. Let "
            "the file keep to other schemas, and the service make what is its own."
        )
    why = f" {cut(detail).rstrip('.')}." if detail else ""
    return ServerRefused(plan.at, f"{where}: {said.message_primary or error}.{why}", remedy)


def _tells_rows(error: psycopg.Error) -> bool:
    """Whether its detail holds what is in a row."""
    return (error.sqlstate or "")[:2] in _ABOUT_DATA


def _of_schema(error: psycopg.Error, schema: str) -> bool:
    """Whether that is what the server denies; its messages are in English."""
    said = error.diag.message_primary or ""
    return error.sqlstate == _DENIED and said == f"permission denied for schema {schema}"


_RUNNER = f"""
CREATE FUNCTION pg_temp.run_schema_file(text) RETURNS void LANGUAGE plpgsql SECURITY DEFINER
SET search_path = {DEFAULT_SCHEMA}, pg_temp AS $$BEGIN EXECUTE $1;
SET CONSTRAINTS ALL IMMEDIATE; END$$;  -- else at our COMMIT, and by us

ALTER FUNCTION pg_temp.run_schema_file(text) OWNER TO {identifier(OWNER)}
""".encode()
