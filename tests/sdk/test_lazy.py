"""Nothing is imported before it is used, and what is not installed is named in a sentence."""

import subprocess
import sys

import pytest

import watertight
from tests.sdk.world import World
from watertight.sdk import DriverMissing, DriverUnfit, nats, postgresql
from watertight.sdk import rabbitmq as rabbitmq_channel

HEAVY = (
    "psycopg",
    "psycopg_pool",
    "asyncpg",
    "sqlalchemy",
    "nats",
    "aio_pika",
    "aiokafka",
    "aiomqtt",
    "pymysql",
    "cryptography",
)


def imported_by(code: str) -> set[str]:
    """The modules that a fresh interpreter has after ``code``."""
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.split())


def test_to_import_watertight_is_to_import_nothing() -> None:
    bare = imported_by("pass")
    assert imported_by("import watertight") - bare == {"watertight"}


def test_the_sdk_imports_no_driver_and_nothing_of_ours() -> None:
    found = imported_by("import watertight; watertight.channel; import watertight.sdk.postgresql")
    assert not {name for name in found if name.partition(".")[0] in HEAVY}
    rooms = {".".join(n.split(".")[:2]) for n in found if n.startswith("watertight.")}
    assert rooms == {"watertight.sdk", "watertight.errors"}


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'watertight' has no attribute 'chanel'"):
        watertight.chanel  # type: ignore[attr-defined]  # noqa: B018


@pytest.mark.parametrize(
    ("kind", "module"),
    [
        ("postgresql", "psycopg_pool"),
        ("nats", "nats.errors"),
        ("rabbitmq", "aio_pika"),
        ("kafka", "aiokafka"),
        ("mariadb", "pymysql"),
        ("mosquitto", "aiomqtt"),
    ],
)
async def test_a_driver_that_is_not_installed_is_named(
    world: World, monkeypatch: pytest.MonkeyPatch, kind: str, module: str
) -> None:
    world.open("orders-db", kind, 5432)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(DriverMissing, match=rf"{module}.*pip install.*channels\[{kind}\]"):
        async with watertight.channel("orders-db"):
            pass


async def test_each_way_to_postgresql_names_its_own_driver(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.open("orders-db", "postgresql", 5432)
    for module in ("asyncpg", "psycopg", "sqlalchemy"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(DriverMissing, match="asyncpg"):
        async with watertight.channel("orders-db", driver="asyncpg"):
            pass
    with pytest.raises(DriverMissing, match="psycopg"):
        postgresql.connect("orders-db")
    monkeypatch.delitem(sys.modules, "psycopg")
    with pytest.raises(DriverMissing, match="sqlalchemy"):
        postgresql.engine("orders-db")


async def test_a_nats_py_that_cannot_be_held_to_tls_is_not_used(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.open("events", "nats", 4222)
    monkeypatch.setattr("watertight.sdk.strict_nats._HOOK", "_no_such_hook")
    with pytest.raises(DriverUnfit, match="cannot be held to TLS"):
        async with nats.client("events"):
            pass


async def test_what_the_driver_may_not_be_told_is_refused(world: World) -> None:
    """Whom to trust, and where to: there is no option for it."""
    world.open("jobs", "rabbitmq", 5671, parameters={"virtual_host": "shop"})
    for option in ({"url": "amqp://elsewhere/"}, {"ssl": False}, {"ssl_context": None}):
        with pytest.raises(TypeError, match="multiple values"):
            async with rabbitmq_channel.connection("jobs", **option):
                pass
    world.open("events", "nats", 4222)
    for option in ({"tls": None}, {"servers": "nats://elsewhere"}):
        with pytest.raises(TypeError, match="multiple values"):
            async with nats.client("events", **option):
                pass
    world.open("orders-db", "postgresql", 1, parameters={"database": "d", "user": "u"})
    for option in ({"ssl": False}, {"host": "elsewhere"}):
        with pytest.raises(TypeError, match="multiple values"):
            async with postgresql.asyncpg_pool("orders-db", **option):
                pass
