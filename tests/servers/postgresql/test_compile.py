"""What is compiled, to the letter; and what clients and other people's administrators are told."""

from pathlib import Path

import pytest

from tests.servers.postgresql.shop import SHOP
from watertight.enforcers.resource import Client
from watertight.model.load import load_text
from watertight.model.placement import Placement
from watertight.servers.postgresql.enforcer import PostgreSQLEnforcer

GOLDEN = Path(__file__).parent / "golden"
PLACEMENT = Placement(Path("/run/wt"), Path("/home/shop"))
ENFORCER = PostgreSQLEnforcer()
SYSTEM = load_text(SHOP.replace("{port}", "5432"))
CHANNEL = SYSTEM.channels[0]


def golden(files: dict[str, str], place: str) -> None:
    """Compares with the files under ``golden``; a missing one is written, and fails."""
    directory = GOLDEN / place
    written = [name for name in files if not (directory / name).exists()]
    for name in written:
        directory.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(files[name])
    assert not written, f"written: {written}"
    assert files == {path.name: path.read_text() for path in directory.iterdir()}


def test_the_configuration_of_a_server() -> None:
    plan = ENFORCER.compile(SYSTEM, PLACEMENT)["orders-db"]
    golden(dict(plan.files), "server")


def test_compiling_is_pure() -> None:
    assert ENFORCER.compile(SYSTEM, PLACEMENT) == ENFORCER.compile(SYSTEM, PLACEMENT)


def test_no_name_can_say_more_than_a_name() -> None:
    text = SHOP.replace("  orders: {}", "  all: {}\n  orders: {}").replace(
        "channels:", "channels:\n  - {from: all, to: orders-db, tables: {orders: [select]}}"
    )
    plan = ENFORCER.compile(load_text(text.replace("{port}", "5432")), PLACEMENT)["orders-db"]
    assert '"all" ' in plan.files["pg_hba.conf"]
    assert '"CN=all,OU=services,O=shop.internal" "all"' in plan.files["pg_ident.conf"]


def test_a_path_cannot_end_a_setting() -> None:
    odd = Placement(Path("/run/it's\\here"), Path("/home/shop"))
    text = ENFORCER.compile(SYSTEM, odd)["orders-db"].files["postgresql.conf"]
    assert "hba_file = '/run/it''s\\\\here/servers/orders-db/pg_hba.conf'" in text


def test_what_another_administrator_is_handed() -> None:
    golden(dict(ENFORCER.render(SYSTEM, SYSTEM.resources["orders-db"])), "external")


@pytest.mark.parametrize("originate", [False, True], ids=["native", "originate"])
def test_what_a_client_is_told(originate: bool) -> None:
    client = Client(
        "orders-db", "127.1.2.3", 5432, Path("/run/wt/credentials/orders/current"), originate
    )
    settings = ENFORCER.client(SYSTEM, CHANNEL, client)
    assert settings.parameters == {"database": "orders", "user": "orders"}
    lines = [f"{name}={value}" for name, value in settings.environment.items()]
    files = {"environment": "\n".join(lines) + "\n", **settings.files}
    golden(files, "originate" if originate else "client")
