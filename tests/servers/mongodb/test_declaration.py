"""What is wrong with a declaration is said at its line."""

import pytest

from tests.servers.mongodb.shop import SHOP
from watertight.model import codes
from watertight.model.load import load_text
from watertight.servers.mongodb.declaration import granted
from watertight.servers.mongodb.server import MongoDB

SHOP_27017 = SHOP.replace("{port}", "27017")
RIGHT = "{orders: [find, insert, update, remove, index], audit.log: [insert]}"


def found(old: str = "", new: str = "") -> list[str]:
    assert old in SHOP
    system = load_text(SHOP_27017.replace(old, new) if old else SHOP_27017)
    flaws = MongoDB().check(system, system.resources["store"])
    return [f"{flaw.code} {flaw.path} {flaw.message} {flaw.remedy}" for flaw in flaws]


def test_nothing_is_wrong_with_the_shop_but_that_the_lobby_may_do_nothing() -> None:
    [one] = found()
    assert codes.GRANTS_NOTHING in one
    assert "('channels', 2)" in one


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("database: shop", "database: admin", "the server has one of that name"),
        ("database: shop", "database: pg_x", "the server has one of that name"),
        ("database: shop", "database: Shop", "is not a name for a database"),
        ("database: shop, ", "", "database"),
        ("database: shop", "database: shop, tables: [x]", "tables"),
        ("bills, audit.log", "bills, system.users", "the server's own"),
        ("bills, audit.log", "bills, $cmd", "is not a name for a collection"),
        ("bills, audit.log", "bills, audit.log, bills", "stands here already"),
        (RIGHT, "{orders: [drop]}", "is not something to grant"),
        (RIGHT, "{orders: [delete]}", "Did you mean `remove`"),
        (RIGHT, "{orders: [find, find]}", "stands here already"),
        (RIGHT, "{order: [find]}", "Did you mean `orders`"),
        (RIGHT, "{orders: [insert, update]}", "Grant `find`, too"),
        (RIGHT, "{orders: [remove]}", "Grant `find`, too"),
        ("to: store}", "to: store, connections: 0}", "connections"),
    ],
)
def test_what_cannot_be_is_said(old: str, new: str, said: str) -> None:
    told = [line for line in found(old, new) if codes.GRANTS_NOTHING not in line]
    assert any(said in line for line in told), told


def test_a_server_takes_so_many_services() -> None:
    more = "".join(f"  s{n}: {{}}\n" for n in range(37))
    channels = "".join(
        f"  - {{from: s{n}, to: store, collections: {{orders: [find]}}}}\n" for n in range(37)
    )
    text = SHOP_27017.replace("  stranger: {}\n", more) + channels
    system = load_text(text)
    assert any(
        "40 services" in flaw.message for flaw in MongoDB().check(system, system.resources["store"])
    )


def test_what_is_granted() -> None:
    channel = load_text(SHOP_27017).channel("billing", "store")
    assert channel is not None
    assert granted(channel).collections == {
        "orders": ["find"],
        "bills": ["find", "insert", "update"],
    }


def test_one_use_is_explained() -> None:
    channel = load_text(SHOP_27017).channel("billing", "store")
    assert channel is not None
    server = MongoDB()
    assert server.granted(channel, "find", "orders") == "find orders"
    assert server.granted(channel, "insert", "orders") is None
    with pytest.raises(ValueError, match="drop"):
        server.granted(channel, "drop", "orders")
