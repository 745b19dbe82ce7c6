"""Whatever is wrong, a person gets one clear sentence, the right exit status, and no traceback."""

import json
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.main import get_group
from typer.testing import CliRunner, Result

from tests.folders import public_folder
from tests.system.running import RunningSystem
from watertight.cli.app import app
from watertight.control.client import AdminClient, NotRunning

SMALL = """\
trust_domain: small.internal
services:
  quiet: {run: [python, -c, "import time; time.sleep(3600)"]}
"""

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be two users, or mount")


@pytest.fixture
def system() -> Iterator[RunningSystem]:
    """One quiet service, not started, where every user may look."""
    with public_folder() as project:
        (project / "watertight.yaml").write_text(SMALL)
        (project / "watertight.yaml").chmod(0o644)
        yield RunningSystem(project, as_root=os.geteuid() == 0)


def refusal(system: RunningSystem, *arguments: str, expect: int) -> str:
    """What the command says on stderr when it refuses."""
    done = system.watertight(*arguments, expect=expect)
    assert "Traceback" not in done.stderr
    return done.stderr


def in_process(*arguments: str, expect: int) -> Result:
    """The same without a process of its own, which takes a second or two."""
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == expect, result.output
    return result


@pytest.mark.parametrize("command", ["lint", "plan", "up", "apply", "status", "down", "verify"])
@pytest.mark.parametrize("name", ["nowhere.yaml", "empty"])
def test_no_declaration_is_misuse(tmp_path: Path, command: str, name: str) -> None:
    (tmp_path / "empty").mkdir()
    said = in_process(command, str(tmp_path / name), "--output", "json", expect=2)
    assert "There is no declaration at" in said.stderr
    assert "There is no declaration" in json.loads(said.stdout)["error"]["message"]


@pytest.mark.parametrize("command", ["apply", "status", "verify"])
def test_what_does_not_run_is_said(system: RunningSystem, command: str) -> None:
    said = in_process(command, str(system.project), expect=3)
    assert "The system is not running." in said.stderr


@pytest.mark.parametrize(
    "command", [["rotate", "leaf"], ["revoke", "quiet"], ["restore", "quiet"]], ids=" ".join
)
def test_nobody_is_distrusted_in_what_does_not_run(
    system: RunningSystem, command: list[str]
) -> None:
    said = in_process(*command, "--file", str(system.project), "-o", "json", expect=3)
    assert "not running" in json.loads(said.stdout)["error"]["message"]


def test_every_command_speaks_json() -> None:
    """``schema`` always does."""
    for command in get_group(app).commands.values():
        assert command.name == "schema" or any(
            "--output" in parameter.opts for parameter in command.params
        ), command.name


@needs_root
def test_the_state_of_another_user_is_not_ours_to_read(system: RunningSystem) -> None:
    system.state.mkdir(mode=0o700)
    (system.state / "current.yaml").write_text(SMALL)
    other = RunningSystem(system.project, as_root=False)
    assert other.command() != system.command()
    said = refusal(other, "plan", str(system.project), expect=3)
    assert "Permission denied" in said
    assert "Run it as the user" in said
    assert "belongs to user 0" in refusal(other, "up", str(system.project), expect=3)
    assert "is not yours to open" in refusal(other, "status", str(system.project), expect=3)


@needs_root
def test_a_full_disk_is_one_clear_error(system: RunningSystem) -> None:
    system.state.mkdir(mode=0o700)
    options = ("-t", "tmpfs", "-o", "size=64k,mode=0700")
    subprocess.run(["mount", *options, "tmpfs", str(system.state)], check=True)  # noqa: S607
    try:
        with pytest.raises(OSError, match="No space left"):
            (system.state / "filler").write_bytes(bytes(1024 * 1024))
        said = refusal(system, "up", str(system.project), expect=3)
        assert "No space left on device" in said
        assert "Make room" in said
        (system.state / "filler").unlink()
    finally:
        subprocess.run(["umount", str(system.state)], check=True)  # noqa: S607


def test_the_state_directory_is_ours_alone_whatever_the_umask(tmp_path: Path) -> None:
    """Many distributions give ordinary users a umask of 002."""
    program = (
        "import os, pathlib, sys; from watertight.cli.logging import log_to_file; "
        "os.umask(0o002); log_to_file(pathlib.Path(sys.argv[1]))"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "state")], check=True)
    for directory in (tmp_path / "state", tmp_path / "state" / "logs"):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_a_control_plane_that_hangs_up_is_no_traceback(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        script = (
            "import socket, sys; s = socket.socket(fileno=int(sys.argv[1])); "
            "c, _ = s.accept(); c.recv(65536); c.close()"
        )
        argv = [sys.executable, "-c", script, str(listener.fileno())]
        with (
            subprocess.Popen(argv, pass_fds=[listener.fileno()]),
            pytest.raises(NotRunning, match="ended before it answered"),
        ):
            AdminClient(path).post("/apply", {})
