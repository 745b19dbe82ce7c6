"""What is compiled, readable: a change of the compiler shows as a diff of the golden files.

``WATERTIGHT_UPDATE_GOLDEN=1 pytest tests/servers/mongodb/test_compile.py`` writes them anew.
"""

import os
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from tests.servers.mongodb.shop import SHOP
from watertight.enforcers.resource import Client
from watertight.model.load import load_text
from watertight.model.placement import Placement
from watertight.model.system import System
from watertight.servers.mongodb.mongod import rights, settings
from watertight.servers.mongodb.server import MongoDB

GOLDEN = Path(__file__).parent / "golden"
PLACEMENT = Placement(Path("/run/watertight"), Path("/srv/shop"))
ENFORCER = MongoDB()
EXTERNAL = SHOP.replace("kind: mongodb", "kind: mongodb, external: db.shop.example")
OPTIONS = frozenset(
    {
        "net.port",
        "net.tls.CAFile",
        "net.tls.allowConnectionsWithoutCertificates",
        "net.tls.allowInvalidCertificates",
        "net.tls.certificateKeyFile",
        "net.tls.clusterAuthX509.attributes",
        "net.tls.disabledProtocols",
        "net.tls.mode",
        "security.authorization",
        "security.clusterAuthMode",
        "security.javascriptEnabled",
        "setParameter.authenticationMechanisms",
        "setParameter.enforceUserClusterSeparation",
        "setParameter.tlsX509ExpirationWarningThresholdDays",
    }
)
"""As mongod's own definitions name them, read there once: ssl_options_server.idl and
ssl_parameters.idl in src/mongo/util/net, server_options*.idl in src/mongo/db."""


def read(text: str = SHOP) -> System:
    return load_text(text.replace("{port}", "27017"), file="watertight.yaml")


def compiled() -> Mapping[str, str]:
    """Golden file → what it must hold."""
    found: dict[str, str] = {}
    system = read()
    plan = ENFORCER.compile(system, PLACEMENT)["store"]
    found |= plan.files
    found["facts"] = "".join(f"{one.name} {dict(one.value)}\n" for one in sorted(plan.grants.facts))
    external = read(EXTERNAL)
    for name, text in ENFORCER.render(external, external.resources["store"]).items():
        found[f"external-{name}"] = text
    for name, one in (("client", system), ("external-client", external)):
        channel = one.channel("orders", "store")
        assert channel is not None
        told = ENFORCER.client(
            one, channel, Client("store", "127.64.0.1", 27017, Path("/run/orders/current"))
        )
        settings = {**told.parameters, **told.environment}
        found[name] = "".join(f"{key}={value}\n" for key, value in settings.items())
    return {name: text for name, text in found.items() if text}


@pytest.mark.parametrize("name", sorted(compiled()))
def test_what_is_compiled_is_as_it_was(name: str) -> None:
    path, now = GOLDEN / name, compiled()[name]
    if os.environ.get("WATERTIGHT_UPDATE_GOLDEN"):
        GOLDEN.mkdir(exist_ok=True)
        path.write_text(now)
    assert now == path.read_text()


def test_no_golden_file_is_left_over() -> None:
    assert {path.name for path in GOLDEN.iterdir()} == set(compiled())


def options(tree: Mapping[str, object], path: str = "") -> set[str]:
    found = set()
    for name, value in tree.items():
        here = f"{path}.{name}" if path else name
        found |= options(value, here) if isinstance(value, dict) else {here}
    return found


def test_every_option_is_one_of_mongods_own() -> None:
    external = read(EXTERNAL)
    rendered = ENFORCER.render(external, external.resources["store"])
    assert options(yaml.safe_load(rendered["mongod.conf"])) == OPTIONS


def test_no_service_counts_as_a_member_of_mongods_cluster() -> None:
    """Its rule: every attribute that is named is in the Subject, with that value."""
    external = read(EXTERNAL)
    resource = external.resources["store"]
    member = settings(external, resource)["net"]["tls"]["clusterAuthX509"]["attributes"]
    for one in rights(external, resource)["services"]:
        assert not set(member.split(",")) <= set(one["user"].split(","))
        # Nor by the rule that holds without that line: the same O, OU and DC as the server's.
        assert "OU=servers" in member
        assert "OU=services" in one["user"]
