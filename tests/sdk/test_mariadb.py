"""MariaDB through the SDK, on a real server: logged in by certificate alone."""

import struct
from collections.abc import AsyncIterator
from typing import Any

import pymysql
import pytest
import pytest_asyncio
import sqlalchemy

import watertight
from tests.sdk.load import rotate_everything
from tests.sdk.process import Running
from tests.sdk.relays import stripping
from tests.sdk.servers import mariadb as running_mariadb
from tests.sdk.servers import program
from tests.sdk.world import World
from watertight.sdk import ChannelUnavailable, mariadb

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(program("mariadbd") is None, reason="needs MariaDB"),
]
PARAMETERS = {"database": "shop", "user": "orders"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(lasting_world: World) -> AsyncIterator[Running]:
    """A running server, declared as ``store``."""
    async with running_mariadb(lasting_world) as running:
        yield running


def asked(sql: str) -> Any:
    """What a statement answers."""

    def ask(connection: "pymysql.Connection[Any]") -> Any:
        with connection.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetchall()

    return ask


async def test_a_channel_is_opened(lasting_world: World, server: Running) -> None:
    async with watertight.channel("store", driver="pymysql") as store:
        [(who,)] = await store.run(asked("SELECT USER()"))
        [(_, version)] = await store.run(asked("SHOW SESSION STATUS LIKE 'Ssl_version'"))
    assert who.startswith("orders@")
    assert version == "TLSv1.3"


async def test_work_that_fails_is_not_committed(lasting_world: World, server: Running) -> None:
    async with mariadb.database("store") as store:
        await store.run(asked("CREATE TABLE work (number INT)"))
        await store.run(asked("INSERT INTO work VALUES (1)"))

        def fail(connection: "pymysql.Connection[Any]") -> None:
            asked("INSERT INTO work VALUES (2)")(connection)
            raise KeyError("no more")

        with pytest.raises(KeyError):
            await store.run(fail)
        assert await store.run(asked("SELECT number FROM work")) == ((1,),)


async def test_an_engine_makes_its_pool_of_them(lasting_world: World, server: Running) -> None:
    async with mariadb.database("store") as store:
        engine = sqlalchemy.create_engine("mysql+pymysql://", creator=store.connect)
        with engine.connect() as connection:
            assert connection.execute(sqlalchemy.text("SELECT DATABASE()")).scalar() == "shop"
        engine.dispose()


async def test_rotation_under_load_loses_nothing(lasting_world: World, server: Running) -> None:
    """Leaf, issuer and root, of both ends, while connections come and go."""
    async with mariadb.database("store") as store:

        async def operation(worker: int) -> None:
            assert await store.run(asked(f"SELECT {worker}")) == ((worker,),)

        async def reload() -> None:
            by = ("--user=admin", "--password=admin", f"--socket={server.directory / 's'}")
            await server.run("mariadb", *by, "--execute=FLUSH SSL")

        assert await rotate_everything(lasting_world, "store", reload, operation) > 100


async def test_a_server_without_tls_learns_nothing(lasting_world: World) -> None:
    """It greets, and says that it can do no TLS: nothing is sent to it."""
    said = b"\x0a10.11.0-MariaDB\0" + struct.pack("<I", 1) + b"12345678\0"
    said += (
        struct.pack("<HBHHB", 0xF7FF & ~0x0800, 45, 2, 0x81FF, 21) + bytes(10) + b"123456789012\0"
    )
    said += b"mysql_native_password\0"
    greeting = len(said).to_bytes(3, "little") + b"\0" + said
    async with stripping(greeting, b"") as (port, seen):
        lasting_world.open("stripped", "mariadb", port, host="store", parameters=PARAMETERS)
        with pytest.raises(ChannelUnavailable, match="SSL is required"):
            async with mariadb.database("stripped", open_seconds=0.1):
                pass
    assert bytes(seen) == b""


@pytest.mark.parametrize(
    ("host", "said"),
    [("store", r"is spiffe://shop\.internal/store"), ("mail", "not valid for 'mail'")],
)
async def test_another_server_is_refused(
    lasting_world: World, server: Running, host: str, said: str
) -> None:
    """By its SPIFFE ID, and by its host name."""
    lasting_world.open("mail", "mariadb", server.port, host=host, parameters=PARAMETERS)
    with pytest.raises(ChannelUnavailable, match=said):
        async with mariadb.database("mail", open_seconds=60):
            pass


async def test_a_server_that_is_not_there_is_an_error_with_its_cause(lasting_world: World) -> None:
    lasting_world.open("absent", "mariadb", 1, parameters=PARAMETERS)
    with pytest.raises(ChannelUnavailable, match=r"absent cannot be opened: .*refused"):
        async with mariadb.database("absent", open_seconds=0.2):
            pass
