"""The reload command runs without a shell, without our environment, and in bounded time."""

import os
import sys
from pathlib import Path

import pytest

from tests.identity.serving.polling import eventually
from watertight.identity.reload import ReloadFailed, ReloadHook, reload


def python(code: str, *arguments: str, timeout_seconds: float = 30) -> ReloadHook:
    return ReloadHook((sys.executable, "-I", "-c", code, *arguments), timeout_seconds)


def names_in(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir()]


async def test_it_runs_what_it_is_told(tmp_path: Path) -> None:
    """Nothing in an argument is special: there is no shell."""
    name = "$(touch oops); a b"
    code = "import pathlib, sys; pathlib.Path(sys.argv[1], sys.argv[2]).touch()"
    await reload(python(code, str(tmp_path), name))
    assert names_in(tmp_path) == [name]


async def test_our_environment_is_not_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATERTIGHT_PASSPHRASE", "secret")
    code = "import os, pathlib, sys; pathlib.Path(sys.argv[1]).write_text(repr(set(os.environ)))"
    await reload(python(code, str(tmp_path / "names")))
    names = (tmp_path / "names").read_text()
    assert "PATH" in names
    assert "WATERTIGHT_PASSPHRASE" not in names


async def test_a_failure_is_an_error_with_what_was_said() -> None:
    code = "import sys; sys.stderr.write('x' * 9000 + ' no such configuration'); sys.exit(3)"
    with pytest.raises(ReloadFailed, match=r"status 3\. It said: x+ no such configuration$") as e:
        await reload(python(code))
    assert len(str(e.value)) < 700


async def test_a_command_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(ReloadFailed, match=r"'/no/such/reload' cannot be run: No such file"):
        await reload(ReloadHook(("/no/such/reload",)))


async def test_a_command_that_hangs_is_ended_with_its_children(tmp_path: Path) -> None:
    code = (
        "import pathlib, subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "pathlib.Path(sys.argv[1]).write_text(str(child.pid))\n"
        "child.wait()"
    )
    with pytest.raises(ReloadFailed, match=r"did not end in 4 s"):
        await reload(python(code, str(tmp_path / "pid"), timeout_seconds=4))
    child = int((tmp_path / "pid").read_text())
    await eventually(lambda: not _runs(child))


def _runs(pid: int) -> bool:
    """Whether it still does anything; an orphan that nobody has reaped yet does not."""
    try:
        return b") Z " not in Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return False


async def test_a_daemon_that_it_leaves_behind_does_not_hold_it(tmp_path: Path) -> None:
    """The daemon keeps the hook's stderr open."""
    code = (
        "import pathlib, subprocess, sys\n"
        "daemon = subprocess.Popen([sys.executable, '-c', 'import sys; sys.stdin.read()'],\n"
        "    stdin=open(sys.argv[2], 'rb+', buffering=0))\n"
        "pathlib.Path(sys.argv[1]).write_text(str(daemon.pid))"
    )
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    try:
        await reload(python(code, str(tmp_path / "pid"), str(pipe), timeout_seconds=20))
    finally:
        daemon = int((tmp_path / "pid").read_text())
        assert _runs(daemon)
        os.kill(daemon, 9)
