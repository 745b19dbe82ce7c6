"""What is compiled, readable: a change of the compiler shows as a diff of the golden files.

``WATERTIGHT_UPDATE_GOLDEN=1 pytest tests/servers/mariadb/test_compile.py`` writes them anew.
"""

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.servers.mariadb.shop import SHOP
from watertight.enforcers.resource import Client
from watertight.model.load import load_text
from watertight.model.placement import Placement
from watertight.model.system import System
from watertight.servers.mariadb.server import MariaDB

GOLDEN = Path(__file__).parent / "golden"
PLACEMENT = Placement(Path("/run/watertight"), Path("/srv/shop"))
ENFORCER = MariaDB()


def read(text: str = SHOP) -> System:
    return load_text(text.replace("{port}", "3306"), file="watertight.yaml")


def compiled() -> Mapping[str, str]:
    """Golden file → what it must hold."""
    system = read()
    found = dict(ENFORCER.compile(system, PLACEMENT)["store"].files)
    external = read(SHOP.replace("kind: mariadb", "kind: mariadb, external: db.shop.example"))
    for name, text in ENFORCER.render(external, external.resources["store"]).items():
        found[f"external-{name}"] = text
    channel = system.channel("orders", "store")
    assert channel is not None
    told = ENFORCER.client(
        system, channel, Client("store", "127.64.0.1", 3306, Path("/run/orders/current"))
    )
    lines = [f"{k}={v}" for k, v in {**told.parameters, **told.environment}.items()]
    found["client"] = "\n".join([*lines, *told.files.values()])
    return found


@pytest.mark.parametrize("name", sorted(compiled()))
def test_what_is_compiled_is_as_it_was(name: str) -> None:
    path, now = GOLDEN / name, compiled()[name]
    if os.environ.get("WATERTIGHT_UPDATE_GOLDEN"):
        GOLDEN.mkdir(exist_ok=True)
        path.write_text(now)
    assert now == path.read_text()


def test_no_golden_file_is_left_over() -> None:
    assert {path.name for path in GOLDEN.iterdir()} == set(compiled())


def test_one_use_is_explained() -> None:
    system = read()
    orders, billing = system.channel("orders", "store"), system.channel("billing", "store")
    assert orders is not None
    assert billing is not None
    assert ENFORCER.granted(orders, "DELETE", "orders") == "delete on table orders"
    assert ENFORCER.granted(billing, "delete", "orders") is None
    with pytest.raises(ValueError, match="drop"):
        ENFORCER.granted(billing, "drop", "orders")
