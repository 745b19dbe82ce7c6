"""What a client is told works with the drivers that people have, and holds nothing they refuse.

Tried by hand as well, with the strings of this test: node-postgres 8 (the URL), pgx 5.13 and lib/pq
1.10.9 and 1.12.3 (the URL, the environment), pgjdbc 42.7.4 and 42.7.8 (the file, the URL).
"""

import socket
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import asyncpg
import psycopg
import pytest
import pytest_asyncio

from tests.rig import Rig
from tests.servers.postgresql.rig import shop_database
from watertight.enforcers.resource import Client, ClientSettings

pytestmark = pytest.mark.asyncio(loop_scope="module")

LIB_PQ = {
    "PGHOST",
    "PGPORT",
    "PGDATABASE",
    "PGUSER",
    "PGSSLMODE",
    "PGSSLCERT",
    "PGSSLKEY",
    "PGSSLROOTCERT",
}
"""What lib/pq takes; of other names of libpq's it knows some, and refuses to start."""
UNKNOWN_TO_IT = {"PGSSLMINPROTOCOLVERSION"}
"""No version has heard of it, so none refuses."""
PARAMETERS = {"sslmode", "sslcert", "sslkey", "sslrootcert"}
"""What every driver reads in a URL; pgx takes all else for settings of the server."""


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def rig() -> AsyncIterator[Rig]:
    async with shop_database() as running:
        yield running


@pytest.fixture
def told(rig: Rig) -> ClientSettings:
    """What ``orders`` is told."""
    credentials = rig.host.placement.credentials("orders")
    client = Client(rig.resource, "127.0.0.1", rig.plan.port, credentials)
    channel = rig.system.channel("orders", rig.resource)
    assert channel is not None
    return rig.enforcer.client(rig.system, channel, client)


@pytest.fixture
def as_in_the_sandbox(
    rig: Rig, told: ClientSettings, monkeypatch: pytest.MonkeyPatch
) -> Mapping[str, str]:
    """The environment; and the resource's name resolves, as its hosts file has it there."""
    for name, value in told.environment.items():
        monkeypatch.setenv(name, value)
    resolve = socket.getaddrinfo

    def resolved(host: Any, *rest: Any, **options: Any) -> Any:
        return resolve("127.0.0.1" if host == rig.resource else host, *rest, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolved)
    return told.environment


async def test_psycopg(as_in_the_sandbox: Mapping[str, str]) -> None:
    url = as_in_the_sandbox["ORDERS_DB_URL"]
    for where in (f"{url}&hostaddr=127.0.0.1", "hostaddr=127.0.0.1"):
        with psycopg.connect(where) as session:
            assert session.execute("SELECT current_user").fetchone() == ("orders",)


async def test_asyncpg_and_its_pool(as_in_the_sandbox: Mapping[str, str]) -> None:
    for dsn in (as_in_the_sandbox["ORDERS_DB_URL"], None):
        async with asyncpg.create_pool(dsn, min_size=1, max_size=1) as pool:
            for _ in range(2):  # the second after its reset, which gives up advisory locks
                assert await pool.fetchval("SELECT current_user") == "orders"


async def test_there_is_nothing_that_a_driver_refuses(told: ClientSettings) -> None:
    of_libpq = {name for name in told.environment if name.startswith("PG")}
    assert of_libpq == LIB_PQ | UNKNOWN_TO_IT
    assert set(parse_qs(urlsplit(told.environment["ORDERS_DB_URL"]).query)) == PARAMETERS


async def test_jdbc_is_given_a_key_that_every_version_reads(told: ClientSettings) -> None:
    (text,) = told.files.values()
    assert "private_key.der" in text
    query = parse_qs(told.environment["ORDERS_DB_JDBC_URL"].partition("?")[2])
    assert query["user"] == ["orders"]
    assert query["sslmode"] == ["verify-full"]
    (key,) = query["sslkey"]
    assert first_byte(key) == b"\x30", "DER"


def first_byte(file: str) -> bytes:
    return Path(file).read_bytes()[:1]
