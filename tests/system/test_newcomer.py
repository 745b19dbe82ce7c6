"""What a newcomer sees whose program, port or declaration is wrong: soon, and what to do.

Each with the installed command, in a folder of its own. No test here asks how long it took: what is
given up is told before its deadline, in words that the deadline does not have.
"""

import json
import os
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ports import free_port
from tests.system.running import RunningSystem

DECLARATION = """\
trust_domain: first.internal
services:
  web:
    run: RUN
    listens: {http: 8000}
gateway:
  hostname: localhost
  listen: 127.0.0.1:PORT
  routes:
    - {path: /, to: web, require: anyone, limit: {per: address, rate: 100/s}}
"""
SERVE = "[python3, -m, http.server, '8000', --bind, 127.0.0.1]"

SEEN = """\
import json, os, pathlib, signal
file = pathlib.Path(os.environ["WATERTIGHT_DATA"], "seen")
file.with_suffix(".new").write_bytes(pathlib.Path("/proc/self/environ").read_bytes())
file.with_suffix(".new").rename(file)
signal.pause()
"""


@pytest.fixture
def system() -> Iterator[RunningSystem]:
    """Not started, where every user may look."""
    with tempfile.TemporaryDirectory(prefix="newcomer-") as directory:
        project = Path(directory)
        project.chmod(0o755)
        yield RunningSystem(project, as_root=os.geteuid() == 0)


def write(system: RunningSystem, run: str = SERVE, port: int = 0) -> int:
    port = port or free_port()
    text = DECLARATION.replace("RUN", run).replace("PORT", str(port))
    (system.project / "watertight.yaml").write_text(text)
    return port


def refused(system: RunningSystem, *options: str) -> str:
    """What `up` says on stderr that does not come up; nothing of it runs then."""
    said = system.watertight("up", str(system.project), *options, expect=3).stderr
    assert "Traceback (most recent call last)" not in said or "    Traceback" in said
    again = system.watertight("status", str(system.project), expect=3).stderr
    assert "not running" in again
    return " ".join(said.split())


def what_is_written(file: Path) -> dict[str, str]:
    """The environment that a program has written down, once it has (proc_pid_environ(5))."""
    deadline = time.monotonic() + 60
    while not file.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return dict(pair.split("=", 1) for pair in file.read_text().rstrip("\0").split("\0"))


@pytest.mark.parametrize(
    "options", [pytest.param((), marks=pytest.mark.slow), ("--detach",)], ids=["", "detached"]
)
def test_a_program_that_ends_at_once_is_told_with_its_last_words(
    system: RunningSystem, options: tuple[str, ...]
) -> None:
    write(system, "[python3, -c, 'import flsk']")
    said = refused(system, *options)
    assert "watertight.yaml:3:3: web does not start: it ended" in said
    assert "last with exit status 1. It said last:" in said
    assert "ModuleNotFoundError: No module named 'flsk'" in said
    assert "install `flsk` there" in said
    assert ".watertight/logs/web.app.log" in said


@pytest.mark.slow  # tests/runtime/test_starting.py has the rest of it, sooner
def test_a_program_that_listens_elsewhere_is_told_where(system: RunningSystem) -> None:
    write(system, "[python3, -m, http.server, '8001', --bind, 127.0.0.1]")
    said = refused(system)
    assert "web is not ready: it listens on 127.0.0.1:8001, and not on 127.0.0.1:8000" in said


@pytest.mark.parametrize(
    ("run", "says"),
    [
        ("[no-such-program]", "no program `no-such-program` can be run"),
        ("[./web.sh]", "Allow it: chmod +x"),
        ("[python3, wbe.py]", "`wbe.py`, which `python3` is to run, is not there."),
        ("[python3, web.py]\n    directory: there", "Did you mean `here`?"),
    ],
)
def test_what_is_not_there_is_refused_before_anything_starts(
    system: RunningSystem, run: str, says: str
) -> None:
    (system.project / "web.sh").write_text("#!/bin/sh\n")
    (system.project / "here").mkdir()
    write(system, run)
    said = refused(system)
    assert says in said
    assert "watertight.yaml:" in said
    assert not system.state.exists()


def test_the_gateways_port_is_taken_by_somebody_who_is_named(system: RunningSystem) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        write(system, port=(port := other.getsockname()[1]))
        said = refused(system)
    assert (
        f"watertight.yaml:8:11: error WT-E1446: The gateway's `127.0.0.1:{port}` is taken" in said
    )
    assert f"(process {os.getpid()}) listens there" in said
    assert "choose another port" in said


def test_what_env_prints_is_what_the_program_gets(system: RunningSystem) -> None:
    """And a second system that wants the first one's port is told whose it is."""
    (system.project / "seen.py").write_text(SEEN)
    caller = "  caller: {run: [python3, seen.py], environment: {COLOUR: blue}}\n"
    channel = "channels:\n  - {from: caller, to: web, allow: [GET /]}\n"
    port = write(system)
    file = system.project / "watertight.yaml"
    file.write_text(file.read_text().replace("gateway:", f"{caller}{channel}gateway:"))
    system.watertight("up", "--detach", str(system.project), expect=0)
    try:
        seen = what_is_written(system.state / "data" / "caller" / "seen")
        said = system.watertight("env", "caller", "-f", str(file), "-o", "json", expect=0).stdout
        assert json.loads(said)["environment"] == seen
        assert seen["WEB_URL"]
        with tempfile.TemporaryDirectory(prefix="newcomer-") as other:
            second = RunningSystem(Path(other), as_root=os.geteuid() == 0)
            second.project.chmod(0o755)
            write(second, port=port)
            assert f"the gateway of the system in {system.project}" in refused(second)
        logs = [log.read_text() for log in (system.state / "logs").glob("*.proxy.log")]
        assert not any("work-in-progress" in log for log in logs)
        # Our own gateway is no obstacle to us.
        system.watertight("apply", str(system.project), expect=0)
    finally:
        system.watertight("down", str(system.project), expect=0)
