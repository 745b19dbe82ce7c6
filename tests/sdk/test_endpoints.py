"""The channels file is read as it is, and what is wrong is said in a sentence with a way out."""

import json
import ssl
from typing import Any

import pytest

import watertight
from tests.sdk.world import World
from watertight.sdk import (
    ChannelError,
    ChannelsUnreadable,
    NoSuchChannel,
    NotLoopback,
    NotUnderWatertight,
    WrongKind,
    find,
    nats,
    postgresql,
    tls_context,
)
from watertight.sdk.endpoints import VARIABLE
from watertight.sdk.opening import _is_final

PARAMETERS = {"database": "orders", "user": "orders"}


async def test_a_channel_is_found_as_it_is_declared_now(world: World) -> None:
    world.open("orders-db", "postgresql", 5432, parameters=PARAMETERS, added_later=["x"])
    found = find("orders-db")
    assert (found.host, found.address, found.port) == ("orders-db", "127.0.0.1", 5432)
    assert (found.service, found.spiffe_id) == ("orders", "spiffe://shop.internal/orders-db")
    assert found.credentials == world.credentials("orders")
    assert found.parameters == PARAMETERS
    world.open("orders-db", "postgresql", 5433, parameters=PARAMETERS)
    assert find("orders-db").port == 5433


async def test_an_unknown_channel_has_a_nearest_match_and_a_remedy(world: World) -> None:
    world.open("orders-db", "postgresql", 5432)
    world.open("events", "nats", 4222)
    with pytest.raises(NoSuchChannel) as caught:
        watertight.channel("order-db")
    assert str(caught.value) == (
        "There is no channel from orders to order-db (did you mean orders-db?). "
        "Declared: events, orders-db. Declare it in watertight.yaml, as "
        "{from: orders, to: order-db} and what it grants, and run `watertight apply`."
    )
    with pytest.raises(NoSuchChannel, match=r"to mail\. Declared"):
        find("mail")


async def test_outside_of_a_system_there_are_no_channels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(NotUnderWatertight, match="with `watertight up`"):
        watertight.channel("orders-db")


@pytest.mark.parametrize(
    "text",
    [
        "not json",
        "[]",
        '{"service": "orders"}',
        '{"channels": {"orders-db": {}}}',
        '{"service": "orders", "trust_domain": "t", "channels": {"orders-db": {}}}',
        '{"service": "orders", "trust_domain": "t", "channels": {"orders-db": 1}}',
    ],
)
async def test_a_file_that_is_not_one_is_said_to_be_none(world: World, text: str) -> None:
    (world.base / "channels.json").write_text(text)
    with pytest.raises(ChannelsUnreadable, match=r"channels\.json, cannot be read: .*apply"):
        find("orders-db")


async def test_a_file_that_is_not_there_is_said_to_be_missing(world: World) -> None:
    (world.base / "channels.json").unlink()
    with pytest.raises(ChannelsUnreadable, match="No such file"):
        find("orders-db")


async def test_a_parameter_that_lacks_is_named(world: World) -> None:
    world.open("orders-db", "postgresql", 5432, parameters={"user": "orders"})
    with pytest.raises(ChannelsUnreadable, match="orders-db lacks the parameter database"):
        postgresql.dsn("orders-db")


async def test_a_channel_of_another_kind_is_refused(world: World) -> None:
    world.open("orders-db", "postgresql", 5432, parameters=PARAMETERS)
    world.open("cache", "redis", 6379)
    with pytest.raises(WrongKind, match="of kind postgresql, not nats"):
        async with nats.client("orders-db"):
            pass
    with pytest.raises(WrongKind, match="of kind redis, for which there is no client"):
        watertight.channel("cache")
    with pytest.raises(WrongKind, match=r"There is psycopg and asyncpg\."):
        watertight.channel("orders-db", driver="nats-py")


@pytest.mark.parametrize("address", ["10.0.0.5", "0.0.0.0", "orders-db", "127.0.0.1.example"])
async def test_in_the_clear_nothing_leaves_the_host(world: World, address: str) -> None:
    with pytest.raises(NotLoopback, match="Nothing is sent"):
        world.open("orders-db", "postgresql", 5432, originate=True, address=address)
    world.open("orders-db", "postgresql", 5432, originate=True, address="127.64.3.9")


@pytest.mark.parametrize("originate", ["true", 1, None, "yes"])
async def test_only_a_plain_true_means_in_the_clear(world: World, originate: Any) -> None:
    assert not world.open("orders-db", "postgresql", 5432, originate=originate).originate


async def test_a_channel_in_the_clear_has_no_tls_context(world: World) -> None:
    world.open("orders-db", "postgresql", 5432, originate=True)
    with pytest.raises(ChannelError, match=r"Connect to 127\.0\.0\.1:5432 in the clear"):
        tls_context("orders-db")


async def test_the_file_is_what_the_contract_says(world: World) -> None:
    """The shape that ``watertight up`` writes."""
    world.open("orders-db", "postgresql", 5432, parameters=PARAMETERS)
    assert json.loads((world.base / "channels.json").read_text()) == {
        "service": "orders",
        "trust_domain": "shop.internal",
        "credentials": str(world.credentials("orders")),
        "channels": {
            "orders-db": {
                "kind": "postgresql",
                "host": "orders-db",
                "address": "127.0.0.1",
                "port": 5432,
                "originate": False,
                "parameters": PARAMETERS,
            }
        },
    }


def test_an_error_that_is_its_own_cause_is_no_riddle() -> None:
    """aiormq raises such: who follows its causes must not go round for ever."""
    one, other = OSError("one"), OSError("other")
    one.__cause__, other.__cause__ = other, one
    assert not _is_final(one)
    other.__cause__ = None
    other.__context__ = ssl.SSLCertVerificationError("not who it should be")
    assert _is_final(one)
