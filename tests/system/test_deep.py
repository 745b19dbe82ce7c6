"""``verify --deep`` from the command line: bounded, on a whole system, read by a program."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.folders import public_folder
from tests.ports import free_port

STEP_SECONDS = 200.0
DECLARATION = """
trust_domain: deep.internal
services:
  web:
    run: [python3, -m, http.server, "8000", --bind, 127.0.0.1]
    listens: {http: 8000}
  alice: {run: [sleep, "1000"]}
  mallory: {run: [sleep, "1000"]}
channels:
  - {from: alice, to: web, allow: [GET /, HEAD /x/**]}
  - {from: mallory, to: web, allow: [GET /]}
gateway:
  hostname: localhost
  listen: 127.0.0.1:GATEWAY_PORT
  routes:
    - {path: /, to: web, require: anyone}
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where the apps' users may look, too, with a running system in it."""
    with public_folder() as place:
        text = DECLARATION.replace("GATEWAY_PORT", str(free_port()))
        (place / "watertight.yaml").write_text(text)
        run(place, "up", "--detach")
        try:
            yield place
        finally:
            run(place, "down")


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "watertight.cli", *arguments],
        cwd=folder,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=STEP_SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"{arguments}: {done.stdout[-2000:]}\n{done.stderr}"
    return done


@pytest.mark.timeout(400)
async def test_a_short_search_of_a_whole_system_holds_and_says_how_to_repeat_it(
    folder: Path,
) -> None:
    said = run(
        *(folder, "verify", "--deep", "--seed", "7", "--minutes", "0.02"),
        *("--only", "deep.http*", "--output", "json"),
    )
    assert "--deep --seed 7" in said.stderr
    document = json.loads(said.stdout)
    assert {(p["id"], p["channel"]) for p in document["probes"]} == {
        ("deep.http1", "alice -> web"),
        ("deep.http1", "mallory -> web"),
        ("deep.http1", "outside -> gateway"),
        ("deep.http2", "outside -> gateway"),
    }
    for probe in document["probes"]:
        assert probe["verdict"] == "held", probe
        assert "seed 7" in probe["attempt"]
    assert not any("nobody listed" in gap["what"] for gap in document["not_attacked"])
