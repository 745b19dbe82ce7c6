"""A real server becomes what is declared, stays it, and says what it is not."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio
from pymongo.errors import OperationFailure, PyMongoError

from tests.rig import Rig, running_server, with_channels
from tests.servers.mongodb.clients import client
from tests.servers.mongodb.shop import SHOP
from watertight.enforcers.resource import ServerMissing
from watertight.servers.mongodb.compile import ACCESS, CONFIGURATION, GRANTS, GUARD
from watertight.servers.mongodb.locate import locate
from watertight.servers.mongodb.operator import Operator
from watertight.servers.mongodb.server import MongoDB

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def rig() -> AsyncIterator[Rig]:
    async with running_server(MongoDB(), SHOP) as running:
        yield running


async def drift(rig: Rig) -> set[str]:
    return set(await rig.enforcer.drift(rig.plan, rig.host))


async def apply(rig: Rig) -> set[str]:
    return set((await rig.enforcer.apply(rig.plan, rig.host)).changed)


async def sql(rig: Rig, *statements: str) -> None:
    await Operator(rig.plan, rig.host).sql(*statements)


async def refused(act: Callable[[], Any]) -> str:
    with pytest.raises(OperationFailure) as no:
        await asyncio.to_thread(act)
    return str(no.value)


async def test_a_second_apply_changes_nothing(rig: Rig) -> None:
    assert await apply(rig) == set()
    assert await drift(rig) == set()


async def test_a_driver_does_what_is_granted_and_nothing_else(rig: Rig) -> None:
    with client(rig, "orders") as orders, client(rig, "billing") as billing:
        one = {"_id": 1, "total": 3}
        await asyncio.to_thread(orders.shop.orders.insert_one, one)
        assert await asyncio.to_thread(billing.shop.orders.find_one) == one
        await asyncio.to_thread(orders.shop.orders.update_one, {"_id": 1}, {"$set": {"total": 4}})
        await asyncio.to_thread(orders.shop.orders.create_index, "total")
        await asyncio.to_thread(orders.shop["audit.log"].insert_one, {})
        assert "not authorized" in await refused(lambda: billing.shop.orders.delete_one({"_id": 1}))
        assert "42501" in await refused(lambda: orders.shop.bills.find_one())
        assert "42501" in await refused(lambda: orders.shop["audit.log"].find_one())
        assert "42501" in await refused(lambda: orders.shop.another.insert_one({}))
        assert "42501" in await refused(lambda: orders.another.orders.insert_one({}))
        assert "not authorized" in await refused(lambda: billing.shop.orders.create_index("total"))
        assert "not authorized" in await refused(orders.list_database_names)
        await asyncio.to_thread(orders.shop.orders.delete_one, {"_id": 1})
        await asyncio.to_thread(orders.shop.orders.drop_index, "total_1")


async def test_what_is_changed_by_hand_is_found_and_taken_back(rig: Rig) -> None:
    await sql(
        rig,
        "CREATE ROLE spy LOGIN SUPERUSER",
        "GRANT orders TO billing",
        "ALTER ROLE lobby CREATEDB CONNECTION LIMIT 3",
        "ALTER ROLE lobby SET search_path TO shop",
        "GRANT SELECT ON ALL TABLES IN SCHEMA shop TO lobby WITH GRANT OPTION",
        "GRANT UPDATE (_jsonb) ON shop._ferretdb_database_metadata TO lobby",
        "GRANT TEMPORARY ON DATABASE postgres TO PUBLIC",
        "GRANT CREATE ON SCHEMA shop TO billing",
        "CREATE SCHEMA more",
        "CREATE FUNCTION shop.peek() RETURNS int LANGUAGE sql RETURN 1",
        "ALTER SYSTEM SET log_connections = on",
        "ALTER DATABASE postgres SET work_mem = '1MB'",
    )
    found = await drift(rig)
    told = "\n".join(found)
    for what in (
        "role spy is not declared",
        "role billing: member_of is",
        "role lobby: connections is '3' and not '-1', powers is 'true'",
        "grant to lobby collection shop bills is not declared",
        "grant to lobby columns shop _ferretdb_database_metadata is not declared",
        "grant to PUBLIC server is not declared",
        "grant to billing database shop: privileges",
        "database more is not declared",
        "relation or function shop shop.peek() is not declared",
        "setting log_connections auto is not declared",
        "setting work_mem database is not declared",
    ):
        assert what in told, told
    kept = {line for line in found if line.startswith("relation or function")}
    assert await apply(rig) == found - kept
    assert await drift(rig) == kept
    await sql(rig, "DROP FUNCTION shop.peek")
    assert await drift(rig) == set()


async def test_a_collection_that_is_gone_comes_back_and_one_that_holds_something_stays(
    rig: Rig,
) -> None:
    await sql(rig, "DROP TABLE shop.bills_4c108bbd")
    assert "collection shop bills is missing" in await drift(rig)
    await Operator(rig.plan, rig.host).create("shop", "empty")
    await Operator(rig.plan, rig.host).create("shop", "full")
    tables = await Operator(rig.plan, rig.host).sql(
        "SELECT to_json(relname) FROM pg_class WHERE relname LIKE 'full_%' AND relkind = 'r'"
    )
    await sql(rig, f"INSERT INTO shop.{tables[0]} VALUES ('{{}}')")
    assert {"collection shop empty is not declared", "collection shop full is not declared"} <= (
        await drift(rig)
    )
    await apply(rig)
    assert await drift(rig) == {"collection shop full is not declared"}
    with client(rig, "billing") as billing:
        await asyncio.to_thread(billing.shop.bills.insert_one, {"_id": 1})
    await sql(rig, f"DELETE FROM shop.{tables[0]}")
    assert await apply(rig) == {"collection shop full is not declared"}


async def test_each_file_that_is_changed_is_taken_back(rig: Rig) -> None:
    for name in (GUARD, GRANTS, CONFIGURATION, ACCESS):
        path = rig.host.placement.server_directory(rig.resource) / name
        path.write_text(path.read_text() + "\n")
        assert await drift(rig) == {f"{name} was changed by hand"}
        assert name in await apply(rig)
    assert await drift(rig) == set()


async def test_a_server_that_runs_with_other_settings_is_started_again(rig: Rig) -> None:
    path = rig.host.placement.server_directory(rig.resource) / CONFIGURATION
    right = path.read_text()
    path.write_text(right.replace("max_connections", "#"))
    await rig.host.stop()
    await rig.host.start()
    path.write_text(right)
    await sql(rig, "SELECT to_json(pg_reload_conf())")
    for _ in range(100):
        if found := await drift(rig):
            break
        await asyncio.sleep(0.05)
    assert found == {"max_connections is not what PostgreSQL's file says"}
    assert "started" in await apply(rig)
    assert await drift(rig) == set()


async def test_new_papers_are_used_at_once_and_no_session_is_lost(rig: Rig) -> None:
    with client(rig, "orders") as before:
        await asyncio.to_thread(before.shop.orders.find_one)
        pid = rig.host.pid
        await rig.keeper.rotate_issuer()
        rig.deliver()
        await rig.enforcer.rotate(rig.plan, rig.host)
        sequence = rig.keeper.prepare_root()
        rig.deliver()
        await rig.keeper.activate_root(sequence)
        rig.deliver()
        await rig.enforcer.rotate(rig.plan, rig.host)
        assert rig.host.pid == pid
        await asyncio.to_thread(before.shop.orders.find_one)
        with client(rig, "orders") as after:
            await asyncio.to_thread(after.shop.orders.find_one)


async def test_a_revoked_service_is_cut_and_comes_in_no_more(rig: Rig) -> None:
    left = rig.compile(with_channels(rig.system, "billing", "lobby"))
    with client(rig, "orders", wait_milliseconds=300) as orders, client(rig, "billing") as billing:
        await asyncio.to_thread(orders.shop.orders.find_one)
        await asyncio.to_thread(billing.shop.orders.find_one)
        assert await rig.enforcer.revoke(left, rig.host, "orders") >= 1
        for _ in range(2):
            with pytest.raises(PyMongoError):
                await asyncio.to_thread(orders.shop.orders.find_one)
        await asyncio.to_thread(billing.shop.orders.find_one)
        await rig.enforcer.apply(left, rig.host)
        with pytest.raises(PyMongoError):
            await asyncio.to_thread(orders.shop.orders.find_one)
        await apply(rig)
        await asyncio.to_thread(orders.shop.orders.find_one)


async def test_no_other_user_of_the_machine_reaches_what_lies_behind(rig: Rig) -> None:
    sockets = rig.host.placement.server_sockets(rig.resource)
    assert sockets.stat().st_mode & 0o077 == 0
    for path in sockets.glob("*.sock"):
        assert path.stat().st_mode & 0o077 == 0


async def test_what_is_missing_is_said_with_how_to_get_it(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setattr("watertight.servers.mongodb.locate.cache", lambda: tmp_path)
    with pytest.raises(ServerMissing) as missing:
        locate(rig.plan, rig.host.placement, "/usr/bin")
    assert "build.sh" in (missing.value.remedy or "")
