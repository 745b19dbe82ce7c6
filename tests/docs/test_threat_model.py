"""The threat model names probes that exist, and leaves no kind of probe out."""

import re

from tests.docs.test_attacks import made_by
from tests.docs.test_links import REPOSITORY
from tests.dataplane.attacks.shop import SHOP as MESH
from tests.servers.nats.test_shared import SHARED
from tests.servers.postgresql.shop import SHOP as ORDERS
from tests.servers.rabbitmq.shop import SHOP as JOBS
from watertight.enforcers.registry import enforcers
from watertight.model.load import load_file, load_text

EXAMPLES = REPOSITORY / "examples"
SYSTEMS = (
    MESH,
    load_file(EXAMPLES / "shop" / "watertight.yaml"),
    load_file(EXAMPLES / "unmodified" / "watertight.yaml"),
    load_text(JOBS.replace("{port}", "5671")),
    load_text(ORDERS.replace("{port}", "5432")),
    load_text(SHARED.replace("{port}", "4222")),
)
PAGE = (REPOSITORY / "docs" / "threat-model.md").read_text()
PROBES = {
    probe.id
    for system in SYSTEMS
    for enforcer in enforcers().values()
    for probe in made_by(enforcer(), system)
}
FAMILIES = {probe.partition(".")[0] for probe in PROBES}


def named(text: str) -> set[str]:
    """The probes that a text names."""
    found = re.findall(r"`([a-z]+)\.([a-z0-9.-]+)`", text)
    return {f"{family}.{name}" for family, name in found if family in FAMILIES}


def test_every_probe_that_is_named_exists() -> None:
    assert named(PAGE) - PROBES == set()


def test_every_family_of_probes_is_explained() -> None:
    assert FAMILIES - {probe.partition(".")[0] for probe in named(PAGE)} == set()


def test_a_probe_that_does_not_exist_would_be_found() -> None:
    assert named("`tls.no-such-thing` and `docs/adr`") == {"tls.no-such-thing"}
