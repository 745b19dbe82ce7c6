"""What is compiled, readable: a change of the compiler shows as a diff of the golden files.

``WATERTIGHT_UPDATE_GOLDEN=1 pytest tests/servers/kafka/test_compile.py`` writes them anew.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.servers.kafka.shop import SHOP
from watertight.enforcers.resource import Client
from watertight.model.load import load_text
from watertight.model.placement import Placement
from watertight.model.system import System
from watertight.servers.kafka.attacks import siblings
from watertight.servers.kafka.compile import facts_of, identity, sibling_port
from watertight.servers.kafka.facts import ACCESS, QUOTA, acl_fact, acl_of, entity_of, quota_fact
from watertight.servers.kafka.server import Kafka

GOLDEN = Path(__file__).parent / "golden"
PLACEMENT = Placement(Path("/run/watertight"), Path("/srv/shop"))
ENFORCER = Kafka()


def read(text: str = SHOP) -> System:
    return load_text(text.replace("{port}", "9093"), file="watertight.yaml")


def compiled() -> Mapping[str, str]:
    """Golden file → what it must hold."""
    system = read()
    plan = ENFORCER.compile(system, PLACEMENT)["events"]
    found = dict(plan.files)
    told = (f"{one.name} {dict(one.value) or ''}".rstrip() for one in sorted(plan.grants.facts))
    found["facts"] = "\n".join([*told, ""])
    external = read(SHOP.replace("kind: kafka", "kind: kafka\n    external: mq.shop.example"))
    for name, text in ENFORCER.render(external, external.resources["events"]).items():
        found[f"external-{name}"] = text
    channel = system.channel("orders", "events")
    assert channel is not None
    client = Client("events", "127.64.0.1", 9093, Path("/run/orders/current"))
    settings = ENFORCER.client(system, channel, client)
    lines = [f"{k}={v}" for k, v in {**settings.parameters, **settings.environment}.items()]
    found["client"] = "\n".join([*lines, ""])
    return {**found, **{f"client-{name}": text for name, text in settings.files.items()}}


@pytest.mark.parametrize("name", sorted(compiled()))
def test_what_is_compiled_is_as_it_was(name: str) -> None:
    path, now = GOLDEN / name, compiled()[name]
    if os.environ.get("WATERTIGHT_UPDATE_GOLDEN"):
        GOLDEN.mkdir(exist_ok=True)
        path.write_text(now)
    assert now == path.read_text()


def test_no_golden_file_is_left_over() -> None:
    assert {path.name for path in GOLDEN.iterdir()} == set(compiled())


def test_no_group_or_id_of_a_service_is_another_s_too() -> None:
    """A name that ends with a dot begins no other service's."""
    for told in facts_of(read(), read().resources["events"]):
        if told.kind == ACCESS:
            acl = acl_of(told)
            assert acl_fact(acl) == told
            service = acl.principal.removeprefix("User:")
            assert acl.name in (service, f"{service}.") or acl.resource_type == 2
        elif told.kind == QUOTA:
            values = {name: float(value) for name, value in told.value}
            assert quota_fact(entity_of(told), values) == told


@pytest.mark.parametrize(
    ("subject", "principal"),
    [
        ("CN=orders,OU=services,O=shop.internal", "orders"),
        ("CN=orders,OU=services,O=shopxinternal", None),
        ("CN=orders,OU=services,O=shop.internal.example", None),
        ("CN=orders,OU=servers,O=shop.internal", None),
        ("CN=server:events,OU=services,O=shop.internal", None),
        ("O=x,CN=orders,OU=services,O=shop.internal", None),
        ("CN=orders\\,OU=services,OU=services,O=shop.internal", None),
    ],
)
def test_a_subject_is_one_service_s_or_nobody_s(subject: str, principal: str | None) -> None:
    rule = identity("shop.internal", "events")["listener.name.clients.ssl.principal.mapping.rules"]
    pattern = rule.removeprefix("RULE:").removesuffix("/$1/")
    match = re.fullmatch(pattern, subject)
    assert (match[1] if match else None) == principal
    assert "DEFAULT" not in rule


@pytest.mark.parametrize("port", [1, 9093, 45_000, 45_534, 45_535, 65_535])
def test_attacker_and_defender_look_for_the_siblings_at_the_same_ports(port: int) -> None:
    assert siblings.ports(port) == (sibling_port(port, 1), sibling_port(port, 2))
