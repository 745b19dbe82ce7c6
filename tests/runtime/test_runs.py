"""What was left of a folder is found by its inits, and by nobody who only calls himself one."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from watertight.runtime.runs import all_of

CALLED = """\
import subprocess, sys
subprocess.run([sys.argv[1]], executable="/bin/cat")
"""
"""Reads until its stdin ends, under the name that it was given."""


@contextmanager
def called(name: str, *before: str) -> Iterator[None]:
    """A process of that name, started by ``before``; there once the block begins."""
    command = [*before, sys.executable, "-c", CALLED, name]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"!")
        process.stdin.flush()
        assert process.stdout.read(1) == b"!"
        yield
        process.stdin.close()


@pytest.fixture
def forged(tmp_path: Path) -> Path:
    """A run directory that says it is of the folder ``tmp_path``, where a program may write."""
    run = tmp_path / ".watertight" / "data" / "web"
    pod = run / "pods" / "web"
    pod.mkdir(parents=True)
    log = tmp_path / ".watertight" / "logs" / "web.app.log"
    (pod / "spec.json").write_text(json.dumps({"processes": [{"log": str(log)}]}))
    return run


def test_a_run_directory_is_found_wherever_it_is(tmp_path: Path, forged: Path) -> None:
    with called(f"watertight-pod {forged}/pods/web"):
        assert all_of(tmp_path) == (forged,)
    assert all_of(tmp_path) == ()


@pytest.mark.skipif(os.geteuid() != 0, reason="makes a process namespace")
def test_a_program_in_a_pod_that_calls_itself_an_init_is_not_believed(
    tmp_path: Path, forged: Path
) -> None:
    """Else `down` would end whatever process that program writes down."""
    with called(f"watertight-pod {forged}/pods/web", "unshare", "--pid", "--fork"):
        assert all_of(tmp_path) == ()


@pytest.mark.parametrize("name", ["", "x", "/", "/x", "/nowhere/pods/web", "\n", "\udcff/a/b/c"])
def test_a_name_that_leads_nowhere_changes_nothing(tmp_path: Path, name: str) -> None:
    with called(f"watertight-pod {name}"):
        assert all_of(tmp_path) == ()
