"""A service that keeps the disk of its system full does not keep it from being revoked."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.folders import public_folder
from tests.ports import free_port

DRIVER = Path(__file__).with_name("on_full_disk.py")
WITHOUT_A_SPARE = "revoke without a spare"


@pytest.mark.root
def test_a_service_that_fills_the_disk_is_revoked() -> None:
    if os.geteuid() != 0:
        pytest.skip("mounts a small disk")
    with public_folder() as folder:
        done = subprocess.run(
            ["/usr/bin/unshare", "-m", sys.executable, DRIVER, folder, str(free_port())],
            env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    seen = json.loads(done.stdout)
    told, status = seen.pop("revoke two said", ""), seen.pop("status said", "")
    assert seen == {
        "up": 0,
        "full": True,
        "revoke": 0,
        "cut": True,
        "apply": 0,
        "rotate": 0,
        WITHOUT_A_SPARE: 3,
        "cut without a spare": True,
        "status": 1,
        "restart": 0,
        "written later": True,
        "up again": 0,
        "revoked": ["one", "two"],
        "down": 0,
    }, done.stderr
    assert "two is revoked, and cut" in told
    assert "No space left on device" in told
    assert "lasts as long as this control process runs" in told
    assert "watertight restart" in told
    assert "Not written down" in status
    assert "The disk of .watertight is full." in status
