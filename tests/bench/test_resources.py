"""The bench of databases and brokers: it measures, leaves out what it must, and nothing behind."""

import asyncio
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench import resources, run, tables, tools
from bench.kinds import KINDS, Kind
from watertight.enforcers.resource import ServerMissing

COMMAND = (sys.executable, "-m", "bench.resources", "--quick", "--kind", "nats")
PARENT = """
import ctypes, os, signal, subprocess, sys, time
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER: orphans become our children
process = subprocess.Popen(sys.argv[1:])
signal.signal(signal.SIGINT, lambda *_: process.send_signal(signal.SIGINT))
status = process.wait()
deadline = time.monotonic() + 15
try:
    while os.waitpid(-1, os.WNOHANG)[0] or time.monotonic() < deadline:
        time.sleep(0.01)
    print("something still runs")
except ChildProcessError:
    sys.exit(status)
"""
"""Runs a command; complains if anything that came of it is still there when it has ended."""


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where the bench puts its files."""
    directory = tmp_path / "t"
    directory.mkdir()
    for each in (directory, *directory.parents[:3]):
        each.chmod(0o755)  # servers run under uids of their own
    monkeypatch.setenv("TMPDIR", str(directory))
    return directory


def started(*arguments: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", PARENT, *COMMAND, *arguments]
    return subprocess.Popen(
        command, cwd=run.REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_a_broker_is_measured_and_nothing_stays(temporary: Path, tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    with started("--output", str(file)) as process:
        output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert "still runs" not in output
    assert list(temporary.iterdir()) == []
    result: dict[str, Any] = json.loads(file.read_text())
    (nats,) = result["kinds"]
    tunnel = [resources.STUNNEL] if tools.find("stunnel") else []
    names = [resources.PLAINTEXT, *tunnel, resources.CHANNEL]
    assert [row["name"] for row in nats["rows"]] == names
    assert all(row[what]["per_second"] > 0 for row in nats["rows"] for what in ("work", "connect"))
    assert 0 < nats["seconds"]["revoked"]["seen"] < nats["seconds"]["revoked"]["done"]
    assert "| channel |" in tables.render("resources", result)


def test_nothing_stays_when_it_is_interrupted(temporary: Path) -> None:
    with started() as process:
        assert process.stderr is not None
        while not process.stderr.readline().startswith("bench: 1/1"):
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=60)
    assert "still runs" not in output
    assert list(temporary.iterdir()) == []


def test_what_takes_too_long_may_end_what_it_started(tmp_path: Path) -> None:
    file = tmp_path / "ended"
    text = "import sys, time\ntry: time.sleep(60)\nfinally: open(sys.argv[1], 'w')"
    with pytest.raises(subprocess.TimeoutExpired):
        run.to_the_end([sys.executable, "-c", text, str(file)], seconds=1)
    assert file.exists()


def test_a_kind_whose_server_is_missing_is_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def measure(kind: Kind, bounds: resources.Bounds) -> dict[str, Any]:
        if kind.kind == "nats":
            raise ServerMissing("There is none.", remedy="Install one.")
        return {"kind": kind.kind, "seconds": bounds.seconds}

    monkeypatch.setattr(resources, "measure", measure)
    result = asyncio.run(resources.all_kinds(KINDS, resources.QUICK))
    assert [kind["kind"] for kind in result["kinds"]] == ["postgresql", "rabbitmq"]
    assert "NATS" in result["left_out"]
    assert "NATS: NOT RUN: There is none. Install one." in capsys.readouterr().err


def test_a_ratio_is_the_median_of_those_of_the_rounds() -> None:
    seen = resources.Seen(rates={("a", "work"): [10, 2, 30], ("b", "work"): [10, 1, 10]})
    assert resources.ratio(seen, "a", "b", "work") == 2
