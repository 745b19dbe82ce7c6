"""An interrupted run leaves nothing, whatever it was about to do and however it was told."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.rig import family_of
from watertight.runtime.cgroups import find
from watertight.runtime.files import STATE_DIRECTORY
from watertight.runtime.proc import start_time
from watertight.runtime.runs import all_of

REPOSITORY = Path(__file__).parents[2]
ROOT = os.geteuid() == 0
EVERYTHING = "postgresql nats envoy system" + " mount" * ROOT
HEARS_IT = ("/usr/bin/env", "--default-signal=INT")
"""What runs in the background of a shell has it ignored, and so would its children."""
SERVERS = {"postgresql": "postgres", "nats": "nats-server", "envoy": "envoy"}
"""What the kernel calls their processes."""
START_SECONDS = 240.0
END_SECONDS = 120.0


@dataclass
class Run:
    """A run of the tests in the middle of what it does."""

    make: "subprocess.Popen[str]"
    home: Path
    """Its temporary directory."""

    def processes(self) -> dict[int, str]:
        """Every process of it: pid → what it is, and when it was started."""
        found = {}
        for pid in family_of(self.make.pid):
            name = Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip()
            found[pid] = f"{name} {start_time(pid)}"
        return found

    def elsewhere(self) -> list[Path]:
        """What its systems have outside its directory: what runs in them, and their budgets."""
        runs = [run for state in self.home.rglob(STATE_DIRECTORY) for run in all_of(state.parent)]
        return runs + [top / f"watertight-{run.name}" for run in runs for top in find()]


@contextmanager
def holding(place: Path, what: str) -> Iterator[Run]:
    """``make tests`` of one test that starts ``what``, says so, and never ends."""
    held = place / "held"
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "PYTEST"))}
    make = subprocess.Popen(
        [
            *(*HEARS_IT, "make", "--no-print-directory", "tests"),
            *("ONLY=-p no:cacheprovider tests/interrupted/holding.py", "PROCESSES=1"),
        ],
        cwd=REPOSITORY,
        env=environment | {"HOLD": what, "HELD": str(held)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        _until(lambda: held.exists() or make.poll() is not None, START_SECONDS)
        assert make.poll() is None, make.communicate()[0]
        yield Run(make, Path(json.loads(held.read_text())))
    finally:
        if make.poll() is None:
            os.killpg(make.pid, signal.SIGTERM)
        make.communicate(timeout=END_SECONDS)


def _until(seen: Callable[[], bool], deadline_seconds: float) -> None:
    deadline = time.monotonic() + deadline_seconds
    while not seen():
        assert time.monotonic() < deadline, "this machine is too slow for what the test waits for"
        time.sleep(0.05)


def left(processes: dict[int, str], paths: list[Path], home: Path) -> list[str]:
    """What there still is of a run that has ended."""
    running = [what for pid, what in processes.items() if what.endswith(f" {start_time(pid)}")]
    mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    return [
        *running,
        *(str(path) for path in [home, *paths] if path.exists()),
        *(line for line in mounts if str(home) in line),
    ]


INTERRUPTS: dict[str, tuple[str, Callable[[int], None]]] = {
    "a terminal's ^C": (EVERYTHING, lambda make: os.killpg(make, signal.SIGINT)),
    "SIGTERM to make alone": ("nats", lambda make: os.kill(make, signal.SIGTERM)),
}


@pytest.mark.parametrize("interrupt", INTERRUPTS)
def test_nothing_is_left_of_an_interrupted_run(interrupt: str, tmp_path: Path) -> None:
    what, end = INTERRUPTS[interrupt]
    with holding(tmp_path, what) as run:
        processes, elsewhere = run.processes(), run.elsewhere()
        before = left(processes, elsewhere, run.home)
        end(run.make.pid)
        run.make.communicate(timeout=END_SECONDS)
    # What is looked for would have been found.
    running = {line.split()[0] for line in before}
    assert {server for server, comm in SERVERS.items() if comm in running} == (
        SERVERS.keys() & what.split()
    )
    assert {str(run.home), *map(str, elsewhere)} <= {*before}
    assert left(processes, elsewhere, run.home) == []
    assert run.make.returncode
