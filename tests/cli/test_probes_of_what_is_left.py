"""There is a proof of every system that a revocation leaves."""

from pathlib import Path

import pytest

from watertight.cli.proof import gather_probes
from watertight.model.load import load_file
from watertight.model.system import System

EXAMPLES = Path(__file__).parents[2] / "examples"


def shop() -> System:
    return load_file(EXAMPLES / "shop" / "watertight.yaml")


@pytest.mark.parametrize("revoked", sorted(shop().workloads()))
def test_each_identity_can_be_revoked(revoked: str) -> None:
    left = shop().without_identities(frozenset({revoked}))
    probes = gather_probes(left, "*")
    used = {probe.channel for probe in probes if probe.kind == "use"}
    assert used
    assert not {channel for channel in used if channel.startswith(f"{revoked} -> ")}


def test_all_can_be() -> None:
    left = shop().without_identities(frozenset(shop().workloads()))
    assert {p.id for p in gather_probes(left, "*") if p.kind == "use"} <= {
        "gateway.certificate",
        "gateway.safety-headers",
    }
