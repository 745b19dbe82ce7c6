"""A small bound on open files is raised where we may; else proxies take fewer connections."""

import subprocess
import sys
from pathlib import Path

import pytest

from watertight.dataplane.compile.bootstrap import MAX_CONNECTIONS, bootstrap
from watertight.model.placement import Placement
from watertight.runtime.open_files import ENOUGH_FILES

RAISED = """
import os, resource, sys
from watertight.runtime.open_files import files_to_open
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
if os.geteuid() == 0 and sys.argv[1] == "nobody":
    os.setuid(65534)
print(files_to_open(), *resource.getrlimit(resource.RLIMIT_NOFILE))
"""


def raised(by: str) -> set[int]:
    done = subprocess.run(
        [sys.executable, "-c", RAISED, by], capture_output=True, text=True, check=True
    )
    return {int(word) for word in done.stdout.split()}


def may_raise_it() -> bool:
    """Root may lack that right in a container (CAP_SYS_RESOURCE, capabilities(7))."""
    status = Path("/proc/self/status").read_text()
    effective = next(line for line in status.splitlines() if line.startswith("CapEff:"))
    return bool(int(effective.split()[1], 16) >> 24 & 1)


@pytest.mark.skipif(not may_raise_it(), reason="only who has CAP_SYS_RESOURCE may")
def test_root_raises_it() -> None:
    most = int(Path("/proc/sys/fs/nr_open").read_text())
    assert raised("root") == {min(ENOUGH_FILES, most)}


def test_others_live_with_it() -> None:
    assert raised("nobody") == {256}


@pytest.mark.parametrize(
    ("files", "connections"), [(65_536, MAX_CONNECTIONS), (4_096, 1_984), (256, 64), (10, 1)]
)
def test_a_proxy_takes_as_many_connections_as_it_can_hold(files: int, connections: int) -> None:
    placement = Placement(Path("/run/w"), Path("/srv"), open_files=files)
    monitors = bootstrap(placement, "web")["overload_manager"]["resource_monitors"]
    assert monitors[0]["typed_config"]["max_active_downstream_connections"] == connections
