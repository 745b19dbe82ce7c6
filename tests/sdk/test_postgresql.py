"""PostgreSQL through the SDK: every driver, on a real server, rotated under load."""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import asyncpg
import psycopg
import pytest
import pytest_asyncio
import sqlalchemy as sa
from psycopg.rows import dict_row

import watertight
from tests.identity.serving.polling import eventually_async
from tests.sdk.load import rotate_everything
from tests.sdk.process import Running
from tests.sdk.relays import SSL_REQUEST, Streams, originating, stripping
from tests.sdk.servers import postgresql as running_postgresql
from tests.sdk.servers import postgresql_programs
from tests.sdk.world import World
from watertight.sdk import ChannelUnavailable, postgresql, tls_context
from watertight.sdk.peer import WrongServer

PROGRAMS = postgresql_programs()
pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(PROGRAMS is None, reason="needs PostgreSQL"),
]
PARAMETERS = {"database": "orders", "user": "orders"}
WHO = """
SELECT current_user, version, client_serial::text, application_name
FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE pid = pg_backend_pid()
"""
Query = Callable[[str], Awaitable[tuple[Any, ...]]]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(lasting_world: World) -> AsyncIterator[Running]:
    """A running server, declared as ``orders-db``."""
    assert PROGRAMS is not None
    async with running_postgresql(lasting_world, PROGRAMS) as running:
        yield running


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pools look for new files often, so that no test waits."""
    monkeypatch.setattr("watertight.sdk.rotation.POLL_SECONDS", 0.05)


@asynccontextmanager
async def by_psycopg(name: str = "orders-db", **options: Any) -> AsyncIterator[Query]:
    """Queries through a psycopg pool."""
    async with watertight.channel(name, driver="psycopg", **options) as pool:

        async def query(sql: str) -> tuple[Any, ...]:
            async with pool.connection() as connection:
                row = await (await connection.execute(sql.encode())).fetchone()
            assert row is not None
            return row

        yield query


@asynccontextmanager
async def by_asyncpg(name: str = "orders-db", **options: Any) -> AsyncIterator[Query]:
    """Queries through an asyncpg pool."""
    async with watertight.channel(name, driver="asyncpg", **options) as pool:

        async def query(sql: str) -> tuple[Any, ...]:
            return tuple(await pool.fetchrow(sql))

        yield query


def by_engine(driver: str) -> Callable[..., AbstractAsyncContextManager[Query]]:
    """Queries through an asyncio engine of SQLAlchemy."""

    @asynccontextmanager
    async def opened(name: str = "orders-db", **options: Any) -> AsyncIterator[Query]:
        engine = postgresql.async_engine(name, driver=driver, pool_size=options.get("max_size", 5))

        async def query(sql: str) -> tuple[Any, ...]:
            async with engine.connect() as connection:
                return tuple((await connection.execute(sa.text(sql))).one())

        try:
            yield query
        finally:
            await engine.dispose()

    return opened


@asynccontextmanager
async def by_blocking_engine(name: str = "orders-db", **options: Any) -> AsyncIterator[Query]:
    """Queries through a blocking engine of SQLAlchemy, in threads."""
    engine = postgresql.engine(name, pool_size=options.get("max_size", 5))

    def query(sql: str) -> tuple[Any, ...]:
        with engine.connect() as connection:
            return tuple(connection.execute(sa.text(sql)).one())

    try:
        yield lambda sql: asyncio.to_thread(query, sql)
    finally:
        engine.dispose()


Opener = Callable[..., AbstractAsyncContextManager[Query]]
POOLS = {"psycopg": by_psycopg, "asyncpg": by_asyncpg}
ENGINES = {
    "sqlalchemy-psycopg": by_engine("psycopg"),
    "sqlalchemy-asyncpg": by_engine("asyncpg"),
    "sqlalchemy-blocking": by_blocking_engine,
}
EVERY = {**POOLS, **ENGINES}
every_way = pytest.mark.parametrize("opener", EVERY.values(), ids=EVERY.keys())
CONNECTS = {
    "sqlalchemy-psycopg": (psycopg.AsyncConnection, "connect"),
    "sqlalchemy-asyncpg": (asyncpg, "connect"),
    "sqlalchemy-blocking": (psycopg, "connect"),
}
"""What each engine connects by."""
both_pools = pytest.mark.parametrize("opener", POOLS.values(), ids=POOLS.keys())


def serial(world: World) -> str:
    """The serial number of our SVID now."""
    svid = world.keeper.x509_svid("orders")
    assert svid is not None
    return str(svid.leaf.serial_number)


@every_way
async def test_a_channel_is_opened(lasting_world: World, server: Running, opener: Opener) -> None:
    async with opener() as query:
        assert await query(WHO) == ("orders", "TLSv1.3", serial(lasting_world), "orders")


@every_way
async def test_rotation_under_load_is_not_noticed(
    lasting_world: World, server: Running, opener: Opener
) -> None:
    """Leaf, issuer and root, of both ends; not one operation fails, and the newest SVID is used."""

    async def reload() -> None:
        server.signal(signal.SIGHUP)

    async with opener(max_size=4) as query:

        async def operation(number: int) -> None:
            assert await query(f"SELECT {number}") == (number,)

        done = await rotate_everything(lasting_world, "orders-db", reload, operation)
        assert done > 900

        async def renewed() -> bool:
            found = await asyncio.gather(*(query(WHO) for _ in range(8)))
            return {row[2] for row in found} == {serial(lasting_world)}

        await eventually_async(renewed)


@pytest.mark.parametrize("name", ENGINES)
async def test_files_that_change_while_an_engine_connects_are_not_missed(
    lasting_world: World, server: Running, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The connection was made with the old ones: it serves once, and is replaced then."""
    owner, attribute = CONNECTS[name]
    connect = getattr(owner, attribute)
    await lasting_world.keeper.reissue("orders")
    left = ["orders"]

    def delivered() -> None:
        while left:
            lasting_world.deliver(left.pop())

    async def connected(*arguments: Any, **options: Any) -> Any:
        connection = await connect(*arguments, **options)
        delivered()
        return connection

    def connected_in_a_thread(*arguments: Any, **options: Any) -> Any:
        connection = connect(*arguments, **options)
        delivered()
        return connection

    in_a_thread = name == "sqlalchemy-blocking"
    monkeypatch.setattr(owner, attribute, connected_in_a_thread if in_a_thread else connected)
    async with ENGINES[name]() as query:
        assert await query("SELECT 1") == (1,)
        assert left == []
        assert (await query(WHO))[2] == serial(lasting_world)


async def test_idle_connections_of_a_pool_are_replaced_too(
    lasting_world: World, server: Running
) -> None:
    async with postgresql.pool("orders-db", min_size=3) as pool, by_asyncpg() as query:
        await lasting_world.rotate("orders")

        async def replaced() -> bool:
            (serials,) = await query(
                "SELECT array_agg(DISTINCT client_serial::text) "
                "FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE usename = 'orders'"
            )
            return bool(serials == [serial(lasting_world)])

        await eventually_async(replaced)
        assert pool.get_stats()["pool_size"] == 3


@every_way
async def test_what_a_connection_is_in_the_middle_of_it_finishes(
    lasting_world: World, server: Running, opener: Opener
) -> None:
    async with opener() as query:
        started = asyncio.ensure_future(query("SELECT 'done' FROM pg_sleep(1)"))
        while True:
            (busy,) = await query(
                "SELECT count(*) FROM pg_stat_activity WHERE query ~ 'pg_slee[p]'"
            )
            if busy:
                break
        await lasting_world.rotate("orders")
        await query("SELECT 1")
        assert await started == ("done",)


@both_pools
async def test_without_a_new_svid_connections_stay(
    lasting_world: World, server: Running, opener: Opener
) -> None:
    async with opener(max_size=1) as query:
        before = await query("SELECT pg_backend_pid()")
        await asyncio.sleep(0.3)  # several looks at the files
        assert await query("SELECT pg_backend_pid()") == before


@both_pools
async def test_a_restarted_server_is_found_again(
    lasting_world: World, server: Running, opener: Opener
) -> None:
    async with opener(max_size=2) as query:
        await query("SELECT 1")
        await server.stop()
        await server.start()

        async def healed() -> bool:
            try:
                return await query("SELECT 1") == (1,)
            except (psycopg.Error, asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                return False

        await eventually_async(healed)


@both_pools
async def test_a_server_that_starts_is_waited_for(
    lasting_world: World, server: Running, opener: Opener
) -> None:
    await server.stop()

    async def query() -> tuple[Any, ...]:
        async with opener() as ask:
            return await ask("SELECT 1")

    asking = asyncio.ensure_future(query())
    await server.start()
    assert await asking == (1,)


@both_pools
async def test_a_server_that_is_not_there_is_an_error_with_its_cause(
    lasting_world: World, opener: Opener
) -> None:
    lasting_world.open("absent", "postgresql", 1, parameters=PARAMETERS)
    with pytest.raises(ChannelUnavailable, match=r"absent cannot be opened: .*(refused|failed)"):
        async with opener("absent", open_seconds=0.2):
            pass


async def test_another_server_is_refused_by_its_spiffe_id(
    lasting_world: World, server: Running
) -> None:
    """It has the host name and is one of ours, but it is not the ledger. At once, and for good."""
    lasting_world.open("ledger", "postgresql", server.port, host="orders-db", parameters=PARAMETERS)
    with pytest.raises(ChannelUnavailable, match=r"is spiffe://shop\.internal/orders-db") as caught:
        async with by_asyncpg("ledger", open_seconds=60):
            pass
    assert isinstance(caught.value.__cause__, WrongServer)


@both_pools
async def test_another_server_is_refused_by_its_host_name(
    lasting_world: World, server: Running, opener: Opener
) -> None:
    lasting_world.open("ledger", "postgresql", server.port, parameters=PARAMETERS)
    with pytest.raises(
        ChannelUnavailable, match=r"does not match host name|not valid for 'ledger'"
    ):
        async with opener("ledger", open_seconds=0.3):
            pass


@both_pools
async def test_a_server_that_says_it_has_no_tls_learns_nothing(
    lasting_world: World, opener: Opener
) -> None:
    async with stripping(b"", b"N") as (port, seen):
        lasting_world.open("stripped", "postgresql", port, host="orders-db", parameters=PARAMETERS)
        with pytest.raises(ChannelUnavailable, match="SSL"):
            async with opener("stripped", open_seconds=0.3):
                pass
    assert set(bytes(seen).split(SSL_REQUEST)) == {b""}


async def test_neither_options_nor_variables_take_tls_away(
    lasting_world: World, server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    variables = {"PGSSLMODE": "disable", "PGHOST": "elsewhere", "PGUSER": "admin", "PGPORT": "1"}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    weaker = {"sslmode": "disable", "sslrootcert": "system", "host": "elsewhere", "user": "admin"}
    right = ("orders", "TLSv1.3", serial(lasting_world), "orders")
    async with by_psycopg(kwargs=weaker) as query, by_asyncpg() as other:
        assert await query(WHO) == await other(WHO) == right

    def blocking() -> tuple[Any, ...] | None:
        with postgresql.connect("orders-db", **weaker) as connection:
            return connection.execute(WHO).fetchone()

    assert await asyncio.to_thread(blocking) == right


async def test_options_reach_the_driver(lasting_world: World, server: Running) -> None:
    kwargs = {"row_factory": dict_row, "application_name": "reports"}
    async with postgresql.pool("orders-db", kwargs=kwargs, max_idle=5, name="mine") as pool:
        async with pool.connection() as connection:
            row: Any = await (await connection.execute(WHO)).fetchone()
        assert row["application_name"] == "reports"
        assert (pool.name, pool.max_idle) == ("mine", 5)


async def test_a_dsn_stays_right_over_rotations(lasting_world: World, server: Running) -> None:
    dsn = postgresql.dsn("orders-db")
    for _ in range(2):
        await lasting_world.rotate("orders")
        async with await psycopg.AsyncConnection.connect(dsn) as connection:
            assert await (await connection.execute(WHO)).fetchone() == (
                *("orders", "TLSv1.3"),
                *(serial(lasting_world), "orders"),
            )


@every_way
async def test_where_the_proxy_speaks_mtls_we_speak_in_the_clear(
    lasting_world: World, server: Running, opener: Opener
) -> None:
    async def connect() -> Streams:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(SSL_REQUEST)
        assert await reader.readexactly(1) == b"S"
        await writer.start_tls(tls_context("orders-db"))
        return reader, writer

    async with originating(connect) as port:
        lasting_world.open(
            "clear", "postgresql", port, originate=True, parameters=PARAMETERS, host="orders-db"
        )
        async with opener("clear") as query:
            assert (await query(WHO))[:2] == ("orders", "TLSv1.3")
