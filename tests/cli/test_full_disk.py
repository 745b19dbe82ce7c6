"""`up --detach` where the disk of `.watertight` is full."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.folders import public_folder

SCRIPT = """
mkdir .watertight
mount -t tmpfs -o size=1m,mode=0700 none .watertight
dd if=/dev/zero of=.watertight/filler bs=4k 2>/dev/null
truncate -s -{left} .watertight/filler
exec {python} -m watertight.cli up --detach
"""


@pytest.mark.root
@pytest.mark.parametrize(
    ("left", "what"), [(0, "no space is left in"), (4096, "No space left on device")]
)
def test_it_says_so(left: int, what: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("mounts a small disk")
    with public_folder() as folder:
        (folder / "watertight.yaml").write_text(
            "trust_domain: full.internal\nservices: {idle: {run: [sleep, '1000']}}\n"
        )
        done = subprocess.run(
            [
                "/usr/bin/unshare",
                "-m",
                "sh",
                "-c",
                SCRIPT.format(left=left, python=sys.executable),
            ],
            cwd=folder,
            env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
    assert (done.returncode, what in done.stderr) == (3, True), done.stderr
    assert "Traceback" not in done.stderr
