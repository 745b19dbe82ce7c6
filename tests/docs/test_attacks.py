"""docs/attacks.md names every attack that the proof makes, and none that it does not make."""

import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.dataplane.attacks.shop import SHOP
from tests.docs.test_links import REPOSITORY
from tests.servers.kafka.shop import SHOP as EVENTS
from tests.servers.mariadb.shop import SHOP as STORE
from tests.servers.mongodb.shop import SHOP as DOCUMENTS
from tests.servers.mosquitto.shop import SHOP as FIELD
from tests.servers.nats.test_shared import SHARED
from tests.servers.postgresql.shop import SHOP as ORDERS
from tests.servers.rabbitmq.shop import SHOP as JOBS
from watertight.attack.probe import Deep, Probe
from watertight.enforcers.registry import enforcers
from watertight.model.load import load_file, load_text
from watertight.model.system import System

PAGE = (REPOSITORY / "docs" / "attacks.md").read_text()
SOURCES = REPOSITORY / "src" / "watertight"

ROW = re.compile(r"\| (?P<attack>[^|]+) \| (?P<probe>[^|]+) \| (?P<source>[^|]+) \|")
ID = re.compile(r"[a-z]+\.[a-z0-9]+(?:-[a-z0-9.]+)*")
DOES_NOT_APPLY = "does not apply: "
SECTIONS = {
    "HTTP between services": "envoy",
    "The gateway": "envoy",
    "TLS and identity": "envoy",
    "Sandboxes, limits and logs": "envoy",
    "PostgreSQL": "postgresql",
    "NATS": "nats",
    "RabbitMQ": "rabbitmq",
    "MariaDB": "mariadb",
    "Kafka": "kafka",
    "Mosquitto": "mosquitto",
    "MongoDB": "mongodb",
}
SYSTEMS = (
    load_file(REPOSITORY / "examples" / "shop" / "watertight.yaml"),
    load_text(JOBS.replace("{port}", "5671")),
    load_text(EVENTS.replace("{port}", "9093")),
    load_text(FIELD.replace("{port}", "8883")),
    load_text(DOCUMENTS.replace("{port}", "27017")),
    load_text(ORDERS.replace("{port}", "5432")),
    load_text(STORE.replace("{port}", "3306")),
    load_text(SHARED.replace("{port}", "4222")),
    SHOP,
)


def made_by(enforcer: Any, system: System) -> Iterator[Probe]:
    """Every probe of an enforcer, the searches of ``--deep`` among them."""
    yield from enforcer.probes(system)
    if hasattr(enforcer, "deep_probes"):
        yield from enforcer.deep_probes(system, Deep(1, 60))


PROBES = {
    kind: {probe.id: probe for system in SYSTEMS for probe in made_by(enforcer(), system)}
    for kind, enforcer in enforcers().items()
}
FAMILIES = {identifier.partition(".")[0] for made in PROBES.values() for identifier in made}


def rows(text: str) -> Iterator[tuple[str, re.Match[str]]]:
    """Section and row of every line of a table."""
    section = ""
    for line in text.splitlines():
        if line.startswith("## "):
            section = line.removeprefix("## ")
        elif (row := ROW.fullmatch(line)) and row["attack"] != "attack" and "---" not in line:
            yield section, row


def named(text: str, kind: str) -> set[str]:
    """The probes that the sections of an enforcer name."""
    return {
        identifier
        for section, row in rows(text)
        if SECTIONS[section] == kind
        for identifier in re.findall(r"`([^`]+)`", row["probe"])
    }


@functools.cache
def written(kind: str) -> set[str]:
    """Ids that stand in the sources: of probes that neither of the two shops calls for."""
    folder = "dataplane" if kind == "envoy" else f"servers/{kind}"
    files = [*(SOURCES / folder / "attacks").rglob("*.py"), *(SOURCES / "attack").glob("*.py")]
    return {text for file in files for text in _strings(file) if _is_id(text)}


def _strings(file: Path) -> Iterator[str]:
    """Not by ``ast``: Python 3.11 parses nothing more after a test of deeply nested answers."""
    yield from re.findall(r'"([^"\n]+)"', file.read_text())


def _is_id(text: str) -> bool:
    return bool(ID.fullmatch(text)) and text.partition(".")[0] in FAMILIES


@pytest.mark.parametrize("kind", sorted(PROBES))
def test_every_attack_has_a_line(kind: str) -> None:
    attacks = {name for name, probe in PROBES[kind].items() if probe.kind == "attack"}
    assert attacks - named(PAGE, kind) == set()


def test_every_line_names_a_probe_or_says_why_there_is_none() -> None:
    for section, row in rows(PAGE):
        kind = SECTIONS[section]
        if row["probe"].startswith(DOES_NOT_APPLY):
            assert len(row["probe"]) > len(DOES_NOT_APPLY) + 10, row[0]
            continue
        names = set(re.findall(r"`([^`]+)`", row["probe"]))
        assert names, row[0]
        assert names - PROBES[kind].keys() - written(kind) == set(), row[0]


def test_every_line_says_where_the_attack_was_published() -> None:
    for _section, row in rows(PAGE):
        assert row["source"].startswith("https://"), row[0]


def test_no_attack_is_listed_twice() -> None:
    listed = [(section, row["attack"], row["probe"]) for section, row in rows(PAGE)]
    assert len(set(listed)) == len(listed)


def test_a_made_up_probe_would_be_found() -> None:
    page = "## NATS\n| an attack | `tls.no-such-thing` | https://example.org |\n"
    assert named(page, "nats") - PROBES["nats"].keys() - written("nats") == {"tls.no-such-thing"}
