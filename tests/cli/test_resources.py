"""What the commands about databases and brokers print, and what they refuse."""

import json
from pathlib import Path

import pytest

from tests.cli.test_refusals import in_process

DECLARATION = """\
trust_domain: shop.internal
services: {orders: {}, quiet: {}}
resources:
  orders-db: {kind: postgresql, database: orders}
  old-db: {kind: postgresql, database: old, external: db.example}
  events: {kind: nats, external: nats.example}
channels:
  - {from: orders, to: orders-db, tables: {orders: [select]}}
  - {from: orders, to: old-db, tables: {orders: [select]}}
  - {from: orders, to: events, publish: [orders.placed]}
"""


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "watertight.yaml"
    path.write_text(DECLARATION)
    return str(path)


def test_env_says_where_a_client_finds_what_it_needs(file: str) -> None:
    said = json.loads(in_process("env", "orders", "-f", file, "-o", "json", expect=0).stdout)
    assert said["environment"]["NATS_URL"] == "tls://events:4222"
    assert said["environment"]["WATERTIGHT_CHANNELS"].endswith("channels.json")
    assert "PGHOST" not in said["environment"]  # two databases claim it
    assert {Path(path).name for path in said["files"]} >= {
        *("certificate.pem", "private_key.pem", "combined.pem", "bundle.pem"),
        *("private_key.der", "keystore.p12", "truststore.p12"),
    }
    text = in_process("env", "orders", "-f", file, expect=0).stdout
    assert "NATS_URL=tls://events:4222" in text.splitlines()


def test_env_of_who_reaches_nothing_names_no_resource(file: str) -> None:
    said = json.loads(in_process("env", "quiet", "-f", file, "-o", "json", expect=0).stdout)
    assert said["files"] == []
    assert {"HOME", "PATH", "SPIFFE_ENDPOINT_SOCKET"} <= said["environment"].keys()
    assert not any(name.startswith(("PG", "NATS_")) for name in said["environment"])


def test_env_of_nobody_is_misuse(file: str) -> None:
    said = in_process("env", "order", "-f", file, expect=2).stderr
    assert "There is no service `order`." in said
    assert "Did you mean `orders`?" in said


def test_render_prints_or_writes_what_an_administrator_needs(file: str, tmp_path: Path) -> None:
    said = json.loads(in_process("render", "old-db", "-f", file, "-o", "json", expect=0).stdout)
    assert 'GRANT SELECT ON TABLE "public"."orders" TO "orders";' in said["files"]["grants.sql"]
    assert "# --- pg_hba.conf" in in_process("render", "old-db", "-f", file, expect=0).stdout
    in_process("render", "old-db", "-f", file, "-d", str(tmp_path / "out"), expect=0)
    written = {path.name: path.read_text() for path in (tmp_path / "out").iterdir()}
    assert written == said["files"]


def test_render_knows_a_service(file: str) -> None:
    done = in_process("render", "quiet", "-f", file, expect=2)
    assert "`quiet` is a service" in done.stderr
    assert "watertight env quiet" in done.stderr


@pytest.mark.parametrize(
    ("resource", "admin", "says"),
    [
        ("old-bd", "user=postgres", "There is no resource `old-bd`. Did you mean `old-db`?"),
        ("orders-db", "user=postgres", "4:3: Watertight runs orders-db itself."),
        ("events", "nats://admin@nats.example", "takes its grants from its own files only."),
        ("old-db", "user=postgres password=secret", "seen by everybody on this machine."),
    ],
)
def test_grant_says_why_it_cannot(file: str, resource: str, admin: str, says: str) -> None:
    done = in_process("grant", resource, "--admin", admin, "-f", file, expect=2)
    assert says in " ".join(done.stderr.split())
    assert "secret" not in done.output
