"""What is compiled, readable: a change of the compiler shows as a diff of the golden files.

``WATERTIGHT_UPDATE_GOLDEN=1 pytest tests/servers/nats/test_compile.py`` writes them anew.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.servers.nats.shop import OLD_SHOP, SHOP
from watertight.enforcers.resource import Client
from watertight.model.load import load_text
from watertight.model.placement import Placement
from watertight.model.system import System
from watertight.servers.nats.server import NATS

GOLDEN = Path(__file__).parent / "golden"
PLACEMENT = Placement(Path("/run/watertight"), Path("/srv/shop"))
ENFORCER = NATS()


def read(text: str) -> System:
    return load_text(text.replace("{port}", "4222"), file="watertight.yaml")


def external() -> System:
    return read(SHOP.replace("kind: nats", "kind: nats\n    external: nats.shop.example"))


def compiled() -> Mapping[str, str]:
    """Golden file → what it must hold."""
    found = {}
    for name, text in (("new", SHOP), ("old", OLD_SHOP)):
        plan = ENFORCER.compile(read(text), PLACEMENT)["events"]
        found[f"{name}.conf"] = plan.files["nats.conf"]
        provisioned = {"streams": plan.grants.streams, "consumers": plan.grants.consumers}
        found[f"{name}.json"] = json.dumps(provisioned, indent=1) + "\n"
    system = external()
    for name, text in ENFORCER.render(system, system.resources["events"]).items():
        found[f"external-{name}"] = text
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


def test_a_server_without_streams_has_no_jetstream() -> None:
    text = SHOP.partition("    streams:")[0] + "channels:\n  - {from: lobby, to: events}\n"
    plan = ENFORCER.compile(read(text), PLACEMENT)["events"]
    assert "jetstream" not in plan.files["nats.conf"]
    assert "$JS" not in plan.files["nats.conf"]
    assert 'deny: [">"]' in plan.files["nats.conf"]  # an empty allow would allow everything


def test_an_external_server_is_not_compiled() -> None:
    assert ENFORCER.compile(external(), PLACEMENT) == {}
    assert tuple(ENFORCER.probes(external())) == ()


def test_a_client_is_told_where_and_how() -> None:
    system = read(SHOP)
    channel = system.channel("mailer", "events")
    assert channel is not None
    client = Client("events", "127.0.0.2", 4222, Path("/c"))
    settings = ENFORCER.client(system, channel, client)
    assert settings.parameters == {
        "user": "spiffe://shop.internal/mailer",
        "inbox_prefix": "_INBOX.mailer",
        "tls_first": "true",
        "consumers": "ORDERS=mailer",
    }
    assert settings.environment == {
        "EVENTS_URL": "tls://events:4222",
        "NATS_URL": "tls://events:4222",
        "NATS_CERT": "/c/certificate.pem",
        "NATS_KEY": "/c/private_key.pem",
        "NATS_CA": "/c/bundle.pem",
        "NATS_INBOX_PREFIX": "_INBOX.mailer",
    }
