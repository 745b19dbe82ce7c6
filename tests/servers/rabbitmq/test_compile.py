"""What is compiled, readable: a change of the compiler shows as a diff of the golden files.

``WATERTIGHT_UPDATE_GOLDEN=1 pytest tests/servers/rabbitmq/test_compile.py`` writes them anew.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.servers.rabbitmq.shop import SHOP
from watertight.enforcers.resource import Client
from watertight.model.load import load_text
from watertight.model.placement import Placement
from watertight.model.system import System
from watertight.servers.rabbitmq.attacks import siblings
from watertight.servers.rabbitmq.compile import definitions, sibling_port
from watertight.servers.rabbitmq.server import RabbitMQ
from watertight.servers.rabbitmq.uses import matches

GOLDEN = Path(__file__).parent / "golden"
PLACEMENT = Placement(Path("/run/watertight"), Path("/srv/shop"))
ENFORCER = RabbitMQ()


def read(text: str = SHOP) -> System:
    return load_text(text.replace("{port}", "5671"), file="watertight.yaml")


def compiled() -> Mapping[str, str]:
    """Golden file → what it must hold."""
    system = read()
    found = dict(ENFORCER.compile(system, PLACEMENT)["jobs"].files)
    external = read(SHOP.replace("kind: rabbitmq", "kind: rabbitmq\n    external: mq.shop.example"))
    for name, text in ENFORCER.render(external, external.resources["jobs"]).items():
        found[f"external-{name}"] = text
    channel = system.channel("orders", "jobs")
    assert channel is not None
    for name, originate in (("native", False), ("originate", True)):
        client = Client("jobs", "127.64.0.1", 5671, Path("/run/orders/current"), originate)
        told = ENFORCER.client(system, channel, client)
        lines = [f"{k}={v}" for k, v in {**told.parameters, **told.environment}.items()]
        found[f"client-{name}"] = "\n".join([*lines, ""])
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


def test_every_user_has_a_topic_permission_at_every_topic_exchange() -> None:
    """Where there is none, RabbitMQ allows every routing key."""
    found = definitions(read(), read().resources["jobs"])
    users = {user["name"] for user in found["users"]}
    assert {one["user"] for one in found["topic_permissions"]} == users


WORDS = st.sampled_from(["orders", "placed", "eu", "a.b", "orders.placed", "x", ""])
KEYS = st.lists(WORDS, min_size=1, max_size=4).map(".".join)


@given(KEYS)
def test_the_brokers_expression_and_the_attackers_reading_agree(key: str) -> None:
    """The one is compiled, the other written anew: neither may be wider."""
    found = definitions(read(), read().resources["jobs"])
    for service, patterns in (
        ("orders", ["orders.placed", "orders.*.eu"]),
        ("billing", ["billing.#"]),
    ):
        user = f"spiffe://shop.internal/{service}"
        [one] = [p for p in found["topic_permissions"] if p["user"] == user]
        allowed = re.search(one["write"], key) is not None
        plain = "" not in key.split(".")
        assert not plain or allowed == any(matches(pattern, key) for pattern in patterns)


@pytest.mark.parametrize("port", [1, 5671, 45_000, 65_535])
def test_attacker_and_defender_look_for_the_siblings_at_the_same_ports(port: int) -> None:
    assert siblings.distribution_port(port) == sibling_port(port, 1)
    assert siblings.mapper_port(port) == sibling_port(port, 2)
    assert 0 < sibling_port(port, 2) < 65_536
