"""A real database becomes what is declared, stays it, and says what it is not."""

import copy
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import psycopg
import pytest
import pytest_asyncio

from tests.rig import Rig
from tests.servers.postgresql.rig import FILES, as_operator, connect, shop_database
from tests.servers.postgresql.shop import SCHEMA, SHOP
from watertight.enforcers.resource import AdminRefused, ServerPlan, ServerRefused
from watertight.errors import WatertightError
from watertight.model.load import load_text
from watertight.model.system import Resource, System
from watertight.servers.postgresql.compile import OPERATOR
from watertight.servers.postgresql.enforcer import PostgreSQLEnforcer
from watertight.servers.postgresql.locate import cluster

ENFORCER = PostgreSQLEnforcer()

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def rig() -> AsyncIterator[Rig]:
    async with shop_database() as running:
        yield running


async def drift(rig: Rig) -> list[str]:
    return list(await rig.enforcer.drift(rig.plan, rig.host))


async def apply(rig: Rig, plan: ServerPlan | None = None) -> tuple[str, ...]:
    return (await rig.enforcer.apply(plan or rig.plan, rig.host)).changed


def declared(rig: Rig, old: str, new: str) -> ServerPlan:
    """The plan of the shop's declaration with one passage changed."""
    assert old in SHOP
    return rig.compile(load_text(SHOP.replace(old, new).replace("{port}", str(rig.host.port))))


def schema_file(rig: Rig) -> Path:
    (name,) = FILES
    return rig.host.placement.project_directory / name


async def test_what_is_declared_works_and_nothing_else(rig: Rig) -> None:
    with connect(rig, "orders") as session:
        session.execute("INSERT INTO orders (customer) VALUES (7)")
        assert session.execute("SELECT greet('you')").fetchone() == ("hello you",)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            session.execute("DELETE FROM orders")


async def test_what_is_granted_or_revoked_by_hand_is_told_as_it_is_and_put_right(rig: Rig) -> None:
    await as_operator(
        rig,
        "GRANT DELETE ON orders TO orders",
        "REVOKE SELECT ON orders FROM orders",
        "CREATE ROLE spy LOGIN PASSWORD 'x'",
        "ALTER SYSTEM SET log_connections = off",
    )
    assert await drift(rig) == [
        "not declared: role spy",
        "not declared: DELETE on TABLE public.orders for orders",
        "missing: SELECT on TABLE public.orders for orders",
        "ALTER SYSTEM set log_connections",
    ]
    assert await apply(rig) == (
        "role spy dropped",
        "revoked: DELETE on TABLE public.orders from orders",
        "granted: SELECT on TABLE public.orders to orders",
        "ALTER SYSTEM undone: log_connections",
    )
    assert await drift(rig) == []


async def test_what_this_server_never_grants_is_not_waited_for(rig: Rig) -> None:
    """On a table that a service may make, too."""
    if await as_operator(rig, "SELECT current_setting('server_version_num')::int >= 170000") == [
        (True,)
    ]:
        pytest.skip("this server has MAINTAIN")
    old = "tables: {customers: {references: [id]}}"
    with pytest.raises(ServerRefused, match="`maintain` needs PostgreSQL 17"):
        await apply(rig, declared(rig, old, "tables: {stock.items: [maintain]}"))
    assert await drift(rig) == []


async def test_what_goes_from_the_declaration_goes_from_the_server(rig: Rig) -> None:
    less = declared(rig, "orders: [select, insert, update]", "orders: [select]")
    assert await apply(rig, less) == (
        "revoked: INSERT on TABLE public.orders from orders",
        "revoked: UPDATE on TABLE public.orders from orders",
    )
    assert len(await apply(rig)) == 2


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("{orders: [select", "{order: [select", "there is no table `public.order`"),
        ("select: [id, name]", "select: [id, nam]", "`public.customers` has no column `nam`"),
        ("[citext]", "[citex]", "this PostgreSQL has no extension `citex`"),
    ],
    ids=["table", "column", "extension"],
)
async def test_what_is_not_there_is_a_refusal_at_its_line_and_changes_nothing(
    rig: Rig, old: str, new: str, says: str
) -> None:
    with pytest.raises(ServerRefused, match=rf"(?i)^watertight.yaml:\d+:\d+: {says}") as refused:
        await apply(rig, declared(rig, old, new))
    assert refused.value.remedy.startswith("Did you mean ")
    assert await drift(rig) == []


@pytest.mark.parametrize(
    ("sql", "says", "remedy"),
    [
        ("CREATE TABLE late (id int);\nSELEKT 1;", r"schema\.sql:22: syntax error", "Nothing was"),
        ("COMMIT;", r"COMMIT", "in one transaction of ours"),
        ("CREATE TABLE orders (id int);", r'"orders" already exists', "IF NOT EXISTS"),
        ("ALTER ROLE orders SUPERUSER;", r"permission denied|must be superuser", ""),
        ("SET ROLE watertight_operator;", r"security-definer|SECURITY DEFINER|permission", ""),
    ],
    ids=["syntax", "commit", "already-there", "superuser", "set-role"],
)
async def test_a_schema_file_that_fails_has_done_nothing(
    rig: Rig, sql: str, says: str, remedy: str
) -> None:
    schema_file(rig).write_text(f"{SCHEMA}{sql}\n")
    try:
        with pytest.raises(ServerRefused, match=says) as refused:
            await apply(rig)
        assert remedy in refused.value.remedy
        assert "schema file db/schema.sql: changed, not run yet" in await drift(rig)
        assert await as_operator(rig, "SELECT to_regclass('late')") == [(None,)]
    finally:
        schema_file(rig).write_text(SCHEMA)
    assert await apply(rig) == ()


async def test_a_schema_file_that_is_gone_is_named(rig: Rig) -> None:
    moved = schema_file(rig).rename(schema_file(rig).with_suffix(".moved"))
    try:
        with pytest.raises(ServerRefused, match=r"schema\.sql cannot be read: No such file"):
            await apply(rig)
    finally:
        moved.rename(schema_file(rig))


async def test_a_changed_schema_file_runs_once(rig: Rig) -> None:
    schema_file(rig).write_text(f"{SCHEMA}CREATE TABLE IF NOT EXISTS returns (id int);\n")
    assert await apply(rig) == ("schema file db/schema.sql run",)
    assert await apply(rig) == ()
    with connect(rig, "orders") as session, pytest.raises(psycopg.errors.InsufficientPrivilege):
        session.execute("SELECT FROM returns")


async def test_a_key_that_does_not_fit_is_refused_and_the_old_pair_stays(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("watertight.servers.served.DEADLINE_SECONDS", 2.0)
    key = rig.host.placement.credentials(rig.resource) / "private_key.pem"
    right = key.read_bytes()
    key.write_bytes((rig.host.placement.credentials("orders") / "private_key.pem").read_bytes())
    try:
        with pytest.raises(WatertightError, match="refuses its certificates") as refused:
            await rig.enforcer.rotate(rig.plan, rig.host)
        assert refused.value.remedy == "It serves the ones of before."
        with connect(rig, "orders") as session:
            session.execute("SELECT FROM orders")
    finally:
        key.write_bytes(right)
    await rig.enforcer.rotate(rig.plan, rig.host)


async def test_a_killed_server_comes_back_with_what_it_kept(rig: Rig) -> None:
    with connect(rig, "orders") as session:
        session.execute("INSERT INTO orders (customer, note) VALUES (1, 'kept')")
    await rig.host.signal(signal.SIGKILL)
    await rig.host.stop()
    assert await drift(rig) == ["the server does not run"]
    assert await apply(rig) == ()
    with connect(rig, "orders") as session:
        kept = session.execute("SELECT count(*) FROM orders WHERE note = 'kept'").fetchone()
    assert kept == (1,)


async def test_what_is_no_data_directory_is_left_alone(rig: Rig) -> None:
    await rig.host.stop()
    data = cluster(rig.host.placement, rig.resource)
    away = data.rename(data.with_name("away"))
    data.mkdir()
    (data / "diary").write_text("mine")
    try:
        with pytest.raises(WatertightError, match="is there and holds no PostgreSQL data"):
            await apply(rig)
        assert (data / "diary").read_text() == "mine"
    finally:
        (data / "diary").unlink(missing_ok=True)
        data.rmdir()
        away.rename(data)
    assert await apply(rig) == ()


async def test_it_never_runs_as_root(rig: Rig) -> None:
    host = copy.copy(rig.host)
    host.user = "root"
    with pytest.raises(WatertightError, match="would run as root, and PostgreSQL refuses to"):
        await rig.enforcer.apply(rig.plan, host)


# --- a server that others run -------------------------------------------------------------------


def of_others(rig: Rig, text: str = SHOP) -> tuple[System, Resource]:
    """The shop's declaration, in which somebody else runs the database."""
    elsewhere = text.replace("{port}", "5432").replace("kind:", "external: db.example\n    kind:")
    system = load_text(elsewhere)
    return system, system.resources[rig.resource]


def admin(rig: Rig) -> str:
    """Its administrator's way in."""
    sockets = rig.host.placement.server_sockets(rig.resource)
    return f"host={sockets} port={rig.host.port} user={OPERATOR}"


async def grant(rig: Rig, text: str = SHOP, *, dry_run: bool = False) -> tuple[str, ...]:
    return await ENFORCER.grant(*of_others(rig, text), admin(rig), dry_run=dry_run)


async def test_a_server_of_others_is_given_what_channels_grant_and_nothing_else(rig: Rig) -> None:
    await as_operator(
        rig,
        "GRANT DELETE ON orders TO orders",
        "GRANT SELECT ON customers TO PUBLIC",
        "REVOKE USAGE ON SEQUENCE tickets FROM orders",
        "ALTER ROLE billing CREATEROLE PASSWORD 'x'",
        "CREATE ROLE others LOGIN",
        "GRANT SELECT ON orders TO others",
    )
    changes = (
        "role billing put right",
        "revoked: SELECT on TABLE public.customers from everybody",
        "revoked: DELETE on TABLE public.orders from orders",
        "granted: USAGE on SEQUENCE public.tickets to orders",
    )
    assert await grant(rig, dry_run=True) == changes
    assert await grant(rig, dry_run=True) == changes  # it was one
    assert await grant(rig) == changes
    assert await grant(rig) == ()
    # What is not ours stands.
    assert await apply(rig) == ("role others dropped",)


async def test_a_server_of_others_that_takes_too_few_is_refused_before_anything(rig: Rig) -> None:
    more = SHOP.replace("connections: 60", "connections: 200").replace(
        "connections: 20", "connections: 80"
    )
    says = "takes 60 connections; its channels come to 120"
    with pytest.raises(ServerRefused, match=says):
        await grant(rig, more)
    assert await drift(rig) == []


async def test_a_table_that_a_server_of_others_lacks_changes_nothing(rig: Rig) -> None:
    typo = SHOP.replace("{orders: [select, insert", "{order: [select, insert")
    says = r"^watertight\.yaml:18:5: There is no table `public\.order`"
    with pytest.raises(ServerRefused, match=says) as refused:
        await grant(rig, typo)
    assert refused.value.remedy == "Did you mean `public.orders`?"
    assert await drift(rig) == []


@pytest.mark.parametrize(
    ("admin", "says"),
    [
        ("host=db.example user=postgres password=secret", "seen by everybody"),
        ("postgresql://postgres:secret@db.example/", "seen by everybody"),
        ("host=db.example sslmode=require", "sslmode=require does not prove"),
        ("host db.example", "no connection string"),
    ],
)
async def test_an_administrators_channel_that_is_not_safe_is_refused(
    rig: Rig, admin: str, says: str
) -> None:
    with pytest.raises(AdminRefused, match=says) as refused:
        await ENFORCER.grant(*of_others(rig), admin)
    assert "secret" not in str(refused.value) + refused.value.remedy
