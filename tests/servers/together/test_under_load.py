"""A database and a broker in real pods, worked at while every key is replaced, and while one is
distrusted, killed or asked for what it cannot do."""

import asyncio
import contextlib
import json
import re
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.folders import public_folder
from tests.planes import arena_of, probes_of, proven, said_inside, sealed
from tests.rig import not_held
from watertight.attack.login import Dialect, Login, LoginRefused, enter, genuine
from watertight.attack.patience import measure, patience
from watertight.attack.tls import Alert
from watertight.attack.wire import Absent
from watertight.control.plane import ControlPlane
from watertight.control.requests import What
from watertight.control.revocation import restore, revoke
from watertight.control.rotation import rotate
from watertight.errors import WatertightError
from watertight.model.load import load_text
from watertight.model.system import Resource
from watertight.servers.nats.attacks.dialect import NATSDialect
from watertight.servers.postgresql.admin import MAINTENANCE, administer
from watertight.servers.postgresql.attacks.dialect import PostgreSQLDialect
from watertight.servers.rabbitmq.attacks.dialect import RabbitMQDialect

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]

SCHEMA = "CREATE TABLE IF NOT EXISTS orders (id bigserial PRIMARY KEY, note text);"
DECLARATION = """
trust_domain: pods.internal
services:
  writer: {run: [sleep, infinity]}
  reader: {run: [sleep, infinity]}
  lonely: {run: [sleep, infinity]}
resources:
  orders-db: {kind: postgresql, database: pods, schema: schema.sql}
  events: {kind: nats, streams: {ORDERS: [orders.>]}}
  jobs: {kind: rabbitmq, queues: [parcels]}
channels:
  - from: writer
    to: orders-db
    tables: {orders: [select, insert]}
    sequences: {orders_id_seq: [usage]}
  - {from: reader, to: orders-db, tables: {orders: [select]}, originate: true}
  - {from: writer, to: events, publish: [orders.placed]}
  - {from: reader, to: events, consume: [ORDERS]}
  - {from: writer, to: jobs, send: [parcels]}
  - {from: reader, to: jobs, consume: [parcels]}
"""
PAGE = (Path(__file__).parents[3] / "docs" / "how-to" / "connect-from-python.md").read_text()
LOAD = (Path(__file__).parent / "load.py").read_text()
COUNT = "import psycopg; print(psycopg.connect().execute('SELECT count(*) FROM orders').fetchone())"
KINDS = ("postgresql", "nats", "rabbitmq")
DIALECTS: Mapping[str, Callable[[Resource], Dialect]] = {
    "postgresql": lambda _: PostgreSQLDialect(),
    "nats": NATSDialect.of,
    "rabbitmq": lambda _: RabbitMQDialect(),
}
ENOUGH = 20
"""Operations between one step and the next."""
CUT_SECONDS = 5.0
"""Of a quiet machine; how long it takes, `make bench` measures."""


@pytest.fixture(scope="module")
def project() -> Iterator[Path]:
    with public_folder() as directory:
        (directory / "watertight.yaml").write_text(DECLARATION)
        (directory / "schema.sql").write_text(SCHEMA)
        yield directory


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def plane(project: Path) -> AsyncIterator[ControlPlane]:
    async with sealed(project / "watertight.yaml") as running:
        yield running


class Working:
    """Load from inside a pod."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def end(self) -> dict[str, Any]:
        """What was done."""
        self._writer.write_eof()
        async with asyncio.timeout(20):
            said = (await self._reader.read()).decode()
        self._writer.close()
        result: dict[str, Any] = json.loads(said.splitlines()[-1])
        return result


@asynccontextmanager
async def working(plane: ControlPlane, service: str, channel: str) -> AsyncIterator[Working]:
    """Load on one channel until the block ends."""
    argv = [sys.executable, "-c", LOAD, channel]
    reader, writer = await plane.supervisor.run_inside(service, argv)
    async with asyncio.timeout(20):
        assert await reader.readline() == b"working\n"
    try:
        yield Working(reader, writer)
    finally:
        with contextlib.suppress(OSError, RuntimeError):
            writer.close()


@pytest.mark.parametrize("channel", ["orders-db", "events", "jobs"])
async def test_every_key_is_replaced_under_load_and_nothing_is_lost(
    plane: ControlPlane, channel: str
) -> None:
    async with working(plane, "writer", channel) as load:
        for what in (What.LEAF, What.ISSUER, What.ROOT, What.LEAF, What.ROOT):
            await rotate(plane, what)
            await asyncio.sleep(0.3)  # the load itself: new connections with the new keys
        result = await load.end()
    assert result["wrong"] == 0, result
    assert result["done"] > ENOUGH


@pytest.mark.parametrize("channel", ["orders-db", "events", "jobs"])
async def test_a_revoked_service_is_cut_at_once(plane: ControlPlane, channel: str) -> None:
    async with working(plane, "writer", channel) as load:
        await asyncio.sleep(0.3)  # the load itself
        await measure()
        began = time.time()
        cut = await revoke(plane, "writer")
        try:
            result = await load.end()
        finally:
            await restore(plane, "writer")
    assert result["done"] > 0
    assert result["last"] - began < patience(CUT_SECONDS)
    assert cut.seconds < patience(CUT_SECONDS)
    async with working(plane, "writer", channel) as load:
        await asyncio.sleep(0.1)  # the load itself
        assert (await load.end())["done"] > 0


async def as_operator(plane: ControlPlane, statement: str, database: str = "pods") -> Any:
    """What the superuser gets for one statement at the database of orders."""
    server = plane.servers.in_force["orders-db"]
    async with administer(server.plan, plane.servers.host(server), database) as connection:
        done = await connection.execute(statement.encode())
        return await done.fetchall() if done.description else None


async def test_only_who_applies_has_an_edited_schema_file_run(
    plane: ControlPlane, project: Path
) -> None:
    """A revocation is no apply, nor is a restore, and neither fails for what they would not run."""
    there = "SELECT to_regclass('public.unfinished') IS NOT NULL"
    (project / "schema.sql").write_text(f"{SCHEMA} CREATE TABLE unfinished (a int); SELEKT 1")
    try:
        await revoke(plane, "writer")
        await restore(plane, "writer")
        drift = (await plane.drift_of_servers())["orders-db"]
        assert drift == ("schema file schema.sql: changed, not run yet",)
        (project / "schema.sql").unlink()
        await revoke(plane, "lonely")
        (project / "schema.sql").write_text(f"{SCHEMA} CREATE TABLE unfinished (a int);")
        await restore(plane, "lonely")
        assert await as_operator(plane, there) == [(False,)]
        await plane.apply(plane.declared)
        assert await as_operator(plane, there) == [(True,)]
    finally:
        (project / "schema.sql").write_text(SCHEMA)
        await plane.apply(plane.declared)
    async with working(plane, "writer", "orders-db") as load:
        assert (await load.end())["done"] > 0


async def test_a_server_that_cannot_be_changed_keeps_nobody_from_being_cut(
    plane: ControlPlane,
) -> None:
    """At the others all is done, and at that one what can be; and it is said what is not."""
    operator = "ALTER ROLE watertight_operator IN DATABASE pods"
    read_only = f"{operator} SET default_transaction_read_only = {{}}"
    await as_operator(plane, read_only.format("on"), MAINTENANCE)
    try:
        async with working(plane, "writer", "orders-db") as load:
            await asyncio.sleep(0.3)  # the load itself
            with pytest.raises(
                WatertightError, match=r"writer is revoked.*orders-db.*read-only"
            ) as refused:
                await revoke(plane, "writer")
            assert (await load.end())["done"] > 0
        assert "changed" not in str(refused.value)
        drift = await plane.drift_of_servers()
        assert (drift["events"], drift["jobs"]) == ((), ())
        # Read plainly, that would say that `apply` lets the revoked one in again.
        assert not any("missing" in line and "writer" in line for line in drift["orders-db"])
        for name in ("pg_hba.conf", "pg_ident.conf"):
            text = (plane.placement.server_directory("orders-db") / name).read_text()
            assert "reader" in text
            assert "writer" not in text
        with pytest.raises(WatertightError, match=r"writer is trusted again.*orders-db.*read-only"):
            await restore(plane, "writer")
    finally:
        await as_operator(plane, read_only.format("off"), MAINTENANCE)
        await restore(plane, "writer")
    for channel in ("orders-db", "events", "jobs"):
        async with working(plane, "writer", channel) as load:
            await asyncio.sleep(1)  # the load itself
            assert (await load.end())["done"] > 0
    assert set((await plane.drift_of_servers()).values()) == {()}


@pytest.mark.parametrize("resource", ["orders-db", "events", "jobs"])
async def test_a_session_from_before_it_was_revoked_is_of_no_use(
    plane: ControlPlane, resource: str
) -> None:
    """Neither at its own door nor at another's, where it was of use until then."""
    login = Login(plane.declared, plane.declared.resources[resource], "writer")
    dialect = DIALECTS[login.resource.kind](login.resource)
    async with arena_of(plane) as arena:
        hello = await genuine(arena, dialect, "writer")
        session = await enter(arena, dialect, login, hello)

        async def taken_up_again(door: str) -> None:
            again = await enter(arena, dialect, login, hello, door=door, earlier=session)
            await again.close()

        await taken_up_again("reader")
        await revoke(plane, "writer")
        try:
            with pytest.raises(Absent):
                await taken_up_again("writer")
            with pytest.raises((Alert, LoginRefused)):
                await taken_up_again("reader")
        finally:
            await session.close()
            await restore(plane, "writer")
        await taken_up_again("reader")


@pytest.mark.parametrize("resource", ["orders-db", "events", "jobs"])
async def test_a_killed_server_heals_without_a_person(plane: ControlPlane, resource: str) -> None:
    await plane.supervisor.signal_process(resource, "server", signal.SIGKILL)
    uses = [p for p in probes_of(plane, KINDS) if p.kind == "use"]
    mine = [p for p in uses if p.channel.endswith(f"-> {resource}")]
    assert mine
    async with asyncio.timeout(30):
        while not_held(await proven(plane, mine)):  # noqa: ASYNC110  another process starts
            await asyncio.sleep(0.1)


async def test_a_client_without_tls_reads_by_its_proxy(plane: ControlPlane) -> None:
    assert (await said_inside(plane, "reader", sys.executable, "-c", COUNT)).startswith("(")


async def test_a_table_that_is_not_there_changes_nothing(plane: ControlPlane) -> None:
    wrong = DECLARATION.replace("tables: {orders: [select]}", "tables: {order: [select]}")
    with pytest.raises(
        WatertightError, match=r"watertight\.yaml:\d+:\d+: .*`public.order`"
    ) as refused:
        await plane.apply(load_text(wrong))
    assert "orders" in refused.value.remedy
    assert await plane.drift_of_servers() == {"orders-db": (), "events": (), "jobs": ()}
    assert (await said_inside(plane, "reader", sys.executable, "-c", COUNT)).startswith("(")


async def test_grants_come_and_go_while_it_runs(plane: ControlPlane) -> None:
    without = DECLARATION.replace(
        "tables: {orders: [select, insert]}", "tables: {orders: [insert]}"
    )
    await plane.apply(load_text(without))
    said = await said_inside(
        plane,
        "writer",
        sys.executable,
        "-c",
        f"try:\n {COUNT}\nexcept Exception as e: print(type(e).__name__)",
    )
    assert said == "InsufficientPrivilege\n"
    await plane.apply(load_text(DECLARATION))
    assert (await said_inside(plane, "writer", sys.executable, "-c", COUNT)).startswith("(")


@pytest.mark.parametrize("kind", KINDS)
async def test_the_example_of_the_page_runs(plane: ControlPlane, kind: str) -> None:
    [code] = re.findall(
        rf"<!-- example: {kind} -->\n```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL
    )
    said = await said_inside(plane, "writer", sys.executable, "-c", f"{code}print('done')")
    assert said.endswith("done\n"), said


async def test_all_of_it_is_proven(plane: ControlPlane) -> None:
    probes = probes_of(plane, KINDS)
    assert len(probes) > 300
    assert not_held(await proven(plane, probes)) == {}
