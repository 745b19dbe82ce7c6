"""Root holds each kind to the suite once more as an ordinary user: servers are then his own."""

import asyncio
import os
import sys
import tempfile
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SUITES = sorted(path.parent.name for path in HERE.glob("*/test_conformance.py"))
SOON = pytest.param("mosquitto", "not permitted and not weakened and not anybody", id="some of it")
"""What `make test` tries: all that is no attack, on the server that takes the least time."""


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="who is not root runs them like this anyway")
@pytest.mark.parametrize(
    ("kind", "which"), [SOON, *(pytest.param(k, "", id=k, marks=pytest.mark.slow) for k in SUITES)]
)
async def test_the_same_without_root(kind: str, which: str) -> None:
    """As the user nobody; a kind whose programs are missing is skipped, and says so."""
    with tempfile.TemporaryDirectory(prefix="wt-nobody-") as directory:
        os.chown(directory, 65534, 65534)
        tests = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.runtime.as_nobody", "-m", "pytest", "-q"),
            *("-p", "no:cacheprovider", "--basetemp", f"{directory}/t", "-m", "not slow"),
            *("-k", which),
            str(HERE / kind / "test_conformance.py"),
            cwd=HERE.parents[1],
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said = (await tests.communicate())[0].decode()
    assert tests.returncode == 0, said
