"""What is wrong with a declaration is said at its line."""

import pytest

from tests.servers.mariadb.shop import SHOP
from watertight.model import codes
from watertight.model.load import load_text
from watertight.servers.mariadb.declaration import Grant, stated
from watertight.servers.mariadb.server import MariaDB

SHOP_3306 = SHOP.replace("{port}", "3306")
RIGHT = "tables: {orders: [select, insert, update, delete], open_orders: [select]}"


def found(old: str = "", new: str = "") -> list[str]:
    assert old in SHOP
    system = load_text(SHOP_3306.replace(old, new) if old else SHOP_3306)
    flaws = MariaDB().check(system, system.resources["store"])
    return [f"{flaw.code} {flaw.path} {flaw.message} {flaw.remedy}" for flaw in flaws]


def test_nothing_is_wrong_with_the_shop_but_that_the_lobby_may_do_nothing() -> None:
    [one] = found()
    assert codes.GRANTS_NOTHING in one
    assert "('channels', 2)" in one


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("database: shop", "database: mysql", "the server has one of that name"),
        ("database: shop", "database: 1a", "is not a name for a database"),
        ("database: shop, ", "", "database"),
        ("database: shop", "database: shop, extensions: [x]", "extensions"),
        ("database: shop", "database: shop, connections: 60", "Write `connections: 114`"),
        (RIGHT, "tables: {orders: [drop]}", "is not a privilege here"),
        (RIGHT, "tables: {orders: [Select]}", "select"),
        (RIGHT, "tables: {orders: []}", "does not say what is stated"),
        (RIGHT, "tables: {orders: [select, select]}", "stands here already"),
        (RIGHT, "tables: {orders: {update: [id, id]}}", "stands here already"),
        (RIGHT, "tables: {orders: {select: [id]}}", "HANDLER reads all. Make a view"),
        (RIGHT, "tables: {orders: {delete: [id]}}", "is not a privilege here"),
        (RIGHT, "tables: {orders: {update: id}}", "are a list"),
        (RIGHT, 'tables: {"or`ders": [select]}', "is not a name for a table"),
        ("connections: 12", "connections: 0", "connections"),
    ],
)
def test_what_cannot_be_is_said(old: str, new: str, said: str) -> None:
    assert any(said in line for line in found(old, new) if codes.GRANTS_NOTHING not in line)


def test_what_is_granted() -> None:
    channel = load_text(SHOP.replace("{port}", "3306")).channel("billing", "store")
    assert channel is not None
    assert stated(channel) == (
        Grant("bills", "insert"),
        Grant("bills", "select"),
        Grant("orders", "update", "total"),
        Grant("totals", "select"),
    )
