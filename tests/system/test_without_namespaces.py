"""Where the kernel allows no namespaces, it says so loudly, and the proof lists it."""

import json
import os
import subprocess
import sys

import pytest

from tests.system.running import REPOSITORY, RunningSystem

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can forbid namespaces"),
    pytest.mark.usefixtures("host_loopback"),
]


FAMILIES = ("tls", "identity", "grants", "sessions", "isolation", "reach", "ports", "exhaust")
"""What a lack of isolation breaks, or might; what clients send is tried at length elsewhere."""
ONLY_THESE = "".join(f"[{''.join(letters)}]" for letters in zip(*FAMILIES, strict=False)) + "*"
"""A pattern is all that ``verify --only`` takes: each of their first letters, place by place."""


class UnisolatedSystem(RunningSystem):
    """Its commands run where no namespace is allowed."""

    def command(self, *arguments: str) -> list[str]:
        return [
            *(sys.executable, "-m", "tests.system.without_namespaces"),
            *("-m", "watertight.cli", *arguments),
        ]


@pytest.fixture
def unisolated(fresh_shop: RunningSystem) -> UnisolatedSystem:
    system = UnisolatedSystem(fresh_shop.project, as_root=False)
    system.gateway_port = fresh_shop.gateway_port
    for path in (system.project.parent, *system.project.parent.rglob("*")):
        os.chown(path, 65534, 65534)
    return system


@pytest.mark.timeout(500)
def test_it_says_so_and_the_proof_lists_it(unisolated: UnisolatedSystem) -> None:
    """Channels are sealed all the same; what isolation would give comes out broken."""
    try:
        unisolated.start()
        unisolated.wait_for_output("not isolated")
        unisolated.drive_traffic()
        done = subprocess.run(
            unisolated.command(
                *("verify", str(unisolated.project), "-o", "json", "--sample", "2"),
                *("--only", ONLY_THESE),
            ),
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            check=False,
            timeout=400,
        )
        assert done.returncode == 1, done.stderr
        document = json.loads(done.stdout)
        assert {p["id"].split(".")[0] for p in document["probes"]} == set(FAMILIES)
        codes = [finding["code"] for finding in document["findings"]]
        assert [code for code in codes if code >= "WT-W2"] == ["WT-W2001", "WT-W2002"]
        found = [p for p in document["probes"] if p["verdict"] == "broken"]
        broken = {probe["id"].split(".")[0] for probe in found}
        assert broken <= {"exhaust", "isolation", "reach", "ports"}, found
        assert "isolation" in broken
        # Nobody may look at what an app was told, without the right to packet sockets.
        unseen = {"grants.forged-headers"}
        assert {
            (p["id"] in unseen, p["verdict"])
            for p in document["probes"]
            if p["id"].split(".")[0] in {"tls", "identity", "grants", "sessions"}
        } == {(False, "held"), (True, "not_run")}
        assert unisolated.stop() == 0
    finally:
        unisolated.end()
