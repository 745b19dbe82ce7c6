"""Root runs the other tests of this folder once more as an ordinary user, in user namespaces."""

import asyncio
import os
import sys
import tempfile
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="who is not root runs them like this anyway")
@pytest.mark.parametrize("file", ["test_running", "test_escape", "test_control_dies", "test_other"])
async def test_the_same_without_root(file: str) -> None:
    """Every test of the file passes as the user nobody; only what needs root is skipped."""
    files = [f"{file}.py"]
    if file == "test_other":
        files = [
            f"test_{name}.py"
            for name in ("host", "identity", "listeners", "plumbing", "confine", "left_behind")
        ]
    with tempfile.TemporaryDirectory(prefix="wt-nobody-") as directory:
        os.chown(directory, 65534, 65534)
        tests = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.runtime.as_nobody", "-m", "pytest", "-q"),
            *("-p", "no:cacheprovider", "--basetemp", f"{directory}/t"),
            *(str(HERE / name) for name in files),
            cwd=HERE.parents[1],
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said = (await tests.communicate())[0].decode()
    assert tests.returncode == 0, said
    assert all("root" in line for line in said.splitlines() if line.startswith("SKIPPED")), said
