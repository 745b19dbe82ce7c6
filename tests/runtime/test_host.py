"""What the kernel allows is found out by doing it, and refusals are told in words."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

from watertight.runtime import linux
from watertight.runtime.capabilities import Isolation, detect
from watertight.runtime.linux import Namespace, SystemCallError


def test_the_best_isolation_is_found() -> None:
    """Root gets users of its own, others user namespaces."""
    found = detect()
    if found.isolation is Isolation.NONE:
        pytest.skip(found.reason)
    wanted = Isolation.USERS if os.geteuid() == 0 else Isolation.USER_NAMESPACES
    assert found.isolation is wanted
    assert found.finding == ""
    assert not found.shared_network


_WITHOUT = """
from pathlib import Path
from watertight.runtime import linux
from watertight.runtime.capabilities import detect
linux.unshare(linux.Namespace.USER)
linux.map_only_this_user({0}, {1})
Path("/proc/sys/user/max_{2}_namespaces").write_text("0")
found = detect()
print(found.isolation, found.finding)
"""


@pytest.mark.parametrize("kind", ["user", "net", "mnt", "pid"])
async def test_a_kernel_that_forbids_one_namespace_is_told_apart(kind: str) -> None:
    """A real limit, set in a user namespace: no isolation, and the reason in one sentence."""
    script = _WITHOUT.format(os.geteuid(), os.getegid(), kind)
    tried = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", script),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    said, errors = await tried.communicate()
    assert tried.returncode == 0, errors.decode()
    assert said.decode().startswith("none Services are not isolated"), said
    assert "No space left on device (ENOSPC)" in said.decode()


def test_a_refused_call_names_itself_and_its_arguments(tmp_path: Path) -> None:
    """So that a person can look it up."""
    with pytest.raises(SystemCallError, match=r"umount2\(.*MNT_DETACH\).*\(E(INVAL|PERM)\)"):
        linux.detach(tmp_path)
    with pytest.raises(SystemCallError, match=r"mount\(none, /nowhere, tmpfs.*\(ENOENT|EPERM\)"):
        linux.mount("none", Path("/nowhere"), "tmpfs")
    with pytest.raises(SystemCallError, match="setns"):
        linux.setns(-1, Namespace.PID)
