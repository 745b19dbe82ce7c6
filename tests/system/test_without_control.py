"""The control process was killed: what runs goes on, every command says so, and `down` ends it."""

import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.folders import public_folder
from tests.ports import free_port
from tests.runtime.conftest import processes_that_name, settled
from tests.system.conftest import needs_root
from tests.system.running import NOBODY, REPOSITORY, SMALL, RunningSystem, small_system
from watertight.runtime.runs import holder

SLOW = """\
trust_domain: small.internal
services:
  web:
    run: [python, -c, "import time; time.sleep(3600)"]
    listens: {http: 8000}
"""
"""It comes up until somebody stops it: it never listens."""

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(params=[pytest.param(True, marks=needs_root, id="root"), False])
def small(request: pytest.FixtureRequest) -> Iterator[RunningSystem]:
    """One service behind a gateway, not started; ended by whatever it takes."""
    with small_system(as_root=request.param) as system:
        yield system


def run(system: RunningSystem, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        system.command(*arguments), cwd=REPOSITORY, capture_output=True, text=True, check=False
    )


def serves(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


ELSEWHERE = """\
import sys
from pathlib import Path
from watertight.runtime import layout
layout.run_directory = lambda project, base=None: Path({run!r})
from watertight.cli.app import app
app()
"""
"""``watertight`` as it would be if its run directories were in other places, as an older one's."""


@contextmanager
def orphaned_elsewhere(system: RunningSystem, patch: pytest.MonkeyPatch) -> Iterator[None]:
    """Its run directory is in no place that this version uses, and nothing leads there."""
    with public_folder() as base:
        if not system.as_root and os.geteuid() == 0:
            os.chown(base, NOBODY, NOBODY)
        source = ELSEWHERE.format(run=str(base / "0123456789"))
        begins = system.command()[: -len(("-m", "watertight.cli"))]
        with patch.context() as patched:
            patched.setattr(system, "command", lambda *words: [*begins, "-c", source, *words])
            orphaned(system)
        (system.state / "run").unlink()
        yield
        system.watertight("down", str(system.project))


def orphaned(system: RunningSystem) -> None:
    system.start()
    system.kill_control()
    assert serves(system.gateway_port)


def test_every_command_says_what_still_runs_and_down_ends_it(small: RunningSystem) -> None:
    orphaned(small)
    here = str(small.project)
    said = small.watertight("status", here, expect=3).stderr
    assert "control process is gone, but 1 program and the gateway still run" in said
    assert "`watertight up` takes them over, `watertight down` ends them" in said
    assert "`watertight down` ends them" in small.watertight("verify", here, expect=3).stderr
    for command in (["apply", here], ["revoke", "web", "-f", here], ["rotate", "leaf", "-f", here]):
        said = small.watertight(*command, expect=3).stderr
        assert "declared and revoked before stays in force" in said, command
        assert "`watertight up --detach` takes them over; then do this again" in said, command
    asked = ("explain", "outside", "web", "GET", "/", "-f", here)
    assert "nobody says who is revoked" in small.watertight(*asked).stderr
    document = json.loads(small.watertight(*asked, "-o", "json").stdout)
    assert (document["allowed"], document["revocations_known"]) == (True, False)
    (small.project / "watertight.yaml").rename(small.project / "renamed.yaml")
    done = small.watertight("down", here, "-o", "json")
    assert json.loads(done.stdout) == {"process": None, "left": ["gateway", "web"]}
    assert not serves(small.gateway_port)
    assert settled(lambda: processes_that_name(small.project)) == {}
    assert not (small.state / "run").exists()
    assert "Nothing runs here." in small.watertight("down", here, expect=3).stderr


def test_another_file_of_the_folder_takes_over_the_same_system(small: RunningSystem) -> None:
    """One folder, one system: nothing is started beside it, and the old port is let go."""
    orphaned(small)
    web, other = small.pod_process("web"), free_port()
    second = small.project / "second.yaml"
    second.write_text(SMALL.format(port=other))
    small.watertight("up", "--detach", str(second))
    assert small.pod_process("web") == web
    assert serves(other)
    assert not serves(small.gateway_port)
    small.watertight("down", str(small.declaration))
    assert not serves(other)
    assert settled(lambda: processes_that_name(small.project)) == {}


def test_what_nothing_is_known_of_is_swept_away_by_up(small: RunningSystem) -> None:
    """`.watertight` was removed; the port is no obstacle, for its holder is this folder's own."""
    orphaned(small)
    web = small.pod_process("web")
    shutil.rmtree(small.state)
    assert "1 program and the gateway" in run(small, "status", str(small.project)).stderr
    small.watertight("up", "--detach", str(small.project))
    assert small.pod_process("web") != web
    assert serves(small.gateway_port)


def test_no_second_control_process_beside_one_whose_lock_was_removed(small: RunningSystem) -> None:
    small.start()
    shutil.rmtree(small.state)
    said = small.watertight("up", str(small.project), expect=3).stderr
    assert "Another `watertight up`" in said
    small.watertight("down", str(small.project))
    assert not serves(small.gateway_port)


def test_an_earlier_run_in_another_place_is_refused_and_ended(
    small: RunningSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an older version left it, which had a run directory for each file of a folder."""
    with orphaned_elsewhere(small, monkeypatch):
        text = small.declaration.read_text()
        small.declaration.write_text(text.replace(str(small.gateway_port), str(free_port())))
        said = small.watertight("up", str(small.project), expect=3).stderr
        assert "An earlier run of this folder left gateway, web running" in said
        assert "gateway, web" in small.watertight("down", str(small.project)).stderr
        assert not serves(small.gateway_port)
        assert settled(lambda: processes_that_name(small.project)) == {}
        small.watertight("up", "--detach", str(small.project))


def test_a_copy_of_the_folder_leaves_the_original_alone(small: RunningSystem) -> None:
    """The copied link leads to the run directory of another folder."""
    orphaned(small)
    with public_folder() as elsewhere:
        copy = elsewhere / "copy"
        shutil.copytree(small.project, copy, symlinks=True)
        if not small.as_root and os.geteuid() == 0:
            for path in (elsewhere, *elsewhere.rglob("*")):
                os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
        assert "Nothing runs here." in small.watertight("down", str(copy), expect=3).stderr
        said = small.watertight("up", str(copy), expect=3).stderr
        assert f"the gateway of the system in {small.project}" in said
    assert serves(small.gateway_port)


def test_the_port_of_an_earlier_run_is_told_with_a_command_that_ends_it(
    small: RunningSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    """WT-E1446: what it prints is typed, word for word, from another folder."""
    with orphaned_elsewhere(small, monkeypatch):
        said = " ".join(small.watertight("up", str(small.project), expect=3).stderr.split())
        assert "WT-E1446" in said
        assert "An earlier run of this folder left it" in said
        command = said.partition("left it: `")[2].partition("`")[0]
        assert command.startswith("watertight down ")
        small.watertight(*shlex.split(command)[1:])
        assert not serves(small.gateway_port)
        small.watertight("up", "--detach", str(small.project))


@contextmanager
def coming_up(system: RunningSystem) -> Iterator["subprocess.Popen[str]"]:
    """``up --detach`` that waits, while its only program is started."""
    system.declaration.write_text(SLOW)
    # Whoever was started in the background by a shell ignores SIGINT, and so would this.
    default = ("/usr/bin/env", "--default-signal=INT,TERM,HUP")
    command = [*default, *system.command("up", "--detach", str(system.project))]
    with subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.PIPE, text=True) as waiting:
        deadline = time.monotonic() + 60
        while not (system.state / "run" / "pods" / "web" / "pod.json").exists():
            assert waiting.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        try:
            yield waiting
        finally:
            waiting.kill()


def nothing_is_left(system: RunningSystem) -> bool:
    return settled(lambda: processes_that_name(system.project)) == {} and not os.path.lexists(
        system.state / "run"
    )


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGTERM,
        pytest.param(signal.SIGINT, marks=pytest.mark.slow),
        pytest.param(signal.SIGHUP, marks=pytest.mark.slow),
    ],
)
def test_who_stops_waiting_leaves_nothing(small: RunningSystem, number: signal.Signals) -> None:
    with coming_up(small) as waiting:
        waiting.send_signal(number)
        assert waiting.wait(60) == 3
    assert nothing_is_left(small)


def test_down_ends_what_is_coming_up(small: RunningSystem) -> None:
    with coming_up(small) as waiting:
        said = small.watertight("status", str(small.project), expect=3).stderr
        assert "the system is starting or stopping" in said
        assert small.watertight("down", str(small.project)).stderr == "Stopped.\n"
        assert waiting.wait(60) == 3
        assert waiting.stderr is not None
        assert "stopped while it came up" in waiting.stderr.read()
    assert nothing_is_left(small)


def test_two_that_stop_it_at_once_both_succeed(small: RunningSystem) -> None:
    small.start()
    command = small.command("down", str(small.project))
    both = [
        subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    ended = [(one.communicate(timeout=60)[1], one.returncode) for one in both]
    # The later one may find that the other has done it already; nothing else may come of it.
    assert {status for _, status in ended} <= {0, 3}
    assert any(status == 0 for _, status in ended)
    assert all("Nothing runs here." in said for said, status in ended if status), ended
    assert nothing_is_left(small)


@needs_root
def test_no_process_is_ended_that_another_user_wrote_down() -> None:
    """Else root, in somebody's folder, would end whatever that user likes."""
    with public_folder() as project:
        system = RunningSystem(project, as_root=True)
        system.declaration.write_text(SLOW)
        system.state.mkdir(mode=0o700)
        opened = project / "opened"
        opened.touch()
        with (
            opened.open() as held,
            subprocess.Popen(
                [sys.executable, "-c", "import time; time.sleep(3600)"], stdin=held
            ) as victim,
        ):
            opened.write_text(f"{victim.pid}\n")
            (system.state / "lock").symlink_to(opened)
            assert holder(system.state) == victim.pid
            os.chown(system.state, NOBODY, NOBODY)
            try:
                said = system.watertight("down", str(project), expect=3).stderr
                assert f"belongs to user {NOBODY}" in said
                assert victim.poll() is None
            finally:
                victim.kill()
