"""The control process was killed: what runs goes on, every command says so, and `down` ends it."""

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator

import pytest

from tests.folders import public_folder
from tests.ports import free_port
from tests.runtime.conftest import processes_that_name, settled
from tests.system.conftest import needs_root
from tests.system.running import NOBODY, REPOSITORY, RunningSystem

SMALL = """\
trust_domain: small.internal
services:
  web:
    run: [python, -m, http.server, "8000", --bind, 127.0.0.1]
    listens: {{http: 8000}}
gateway:
  hostname: localhost
  listen: 127.0.0.1:{port}
  routes:
    - {{path: /, to: web, require: anyone}}
"""

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(params=[pytest.param(True, marks=needs_root, id="root"), False])
def small(request: pytest.FixtureRequest) -> Iterator[RunningSystem]:
    """One service behind a gateway, not started; ended by whatever it takes."""
    with public_folder() as project:
        system = RunningSystem(project, as_root=request.param)
        system.gateway_port = free_port()
        system.declaration.write_text(SMALL.format(port=system.gateway_port))
        if not request.param and os.geteuid() == 0:
            for path in (project, system.declaration):
                os.chown(path, NOBODY, NOBODY)
        try:
            yield system
        finally:
            run(system, "down", str(project))
            system.end()


def run(system: RunningSystem, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        system.command(*arguments), cwd=REPOSITORY, capture_output=True, text=True, check=False
    )


def serves(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


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
    (small.project / "watertight.yaml").rename(small.project / "renamed.yaml")
    done = small.watertight("down", here, "-o", "json")
    assert json.loads(done.stdout) == {"process": None, "left": ["gateway", "web"]}
    assert not serves(small.gateway_port)
    assert settled(lambda: processes_that_name(small.project)) == {}
    assert not (small.state / "run").exists()
    assert "is not running" in small.watertight("down", here, expect=3).stderr


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


def test_an_earlier_run_in_another_place_is_refused_and_ended(small: RunningSystem) -> None:
    """As an older version left it, which had a run directory for each file of a folder."""
    orphaned(small)
    run_directory = (small.state / "run").resolve()
    (small.state / "run").unlink()
    run_directory.rename(run_directory.with_name("0123456789"))
    text = small.declaration.read_text()
    small.declaration.write_text(text.replace(str(small.gateway_port), str(free_port())))
    said = small.watertight("up", str(small.project), expect=3).stderr
    assert "An earlier run of this folder left gateway, web running" in said
    assert "gateway, web" in small.watertight("down", str(small.project)).stderr
    assert not serves(small.gateway_port)
    assert settled(lambda: processes_that_name(small.project)) == {}


def test_a_copy_of_the_folder_leaves_the_original_alone(small: RunningSystem) -> None:
    """The copied link leads to the run directory of another folder."""
    orphaned(small)
    with public_folder() as elsewhere:
        copy = elsewhere / "copy"
        shutil.copytree(small.project, copy, symlinks=True)
        if not small.as_root and os.geteuid() == 0:
            for path in (elsewhere, *elsewhere.rglob("*")):
                os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
        assert "is not running" in small.watertight("down", str(copy), expect=3).stderr
        said = small.watertight("up", str(copy), expect=3).stderr
        assert f"the gateway of the system in {small.project}" in said
    assert serves(small.gateway_port)
