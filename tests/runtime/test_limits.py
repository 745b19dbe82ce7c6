"""What a program may use of its host, used up from inside: and who else notices."""

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.runtime.conftest import Host, running
from tests.runtime.programs import idler, system_of
from watertight.model.system import Limits
from watertight.runtime.capabilities import HostCapabilities, Isolation

MEBIBYTE = 1 << 20
SMALL = Limits(96 * MEBIBYTE, 40, 4 * MEBIBYTE, 64)
LARGE = Limits(1024 * MEBIBYTE, 400, 64 * MEBIBYTE, 640)
PYTHON = sys.executable

_FORKS = """
import os, signal, sys
children = []
try:
    while len(children) < 300:
        pid = os.fork()
        if not pid:
            signal.pause()
        children.append(pid)
except BlockingIOError:
    pass
print(len(children))
for pid in children:
    os.kill(pid, signal.SIGKILL)
"""
_THREADS = """
import threading
done, threads = threading.Event(), []
threading.stack_size(65536)
try:
    while len(threads) < 300:
        threads.append(threading.Thread(target=done.wait))
        threads[-1].start()
except RuntimeError:
    pass
print(len(threads))
done.set()
"""
_BALLOON = """
import os, sys
pid = os.fork()
if not pid:
    held = []
    for mebibytes in range(1, 257):
        try:
            held.append(bytearray(os.urandom(1) * (1 << 20)))
        except MemoryError:
            os._exit(1)
    os._exit(0)
status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
print({0: "all", 1: "refused", -9: "killed"}[status])
"""
_FILL = """
import errno, os, sys
total = 0
for number, place in enumerate(sys.argv[1:]):
    try:
        with open(os.path.join(place, f"filler{number}"), "wb", buffering=0) as file:
            for _ in range(128):
                total += file.write(bytes(1 << 20))
    except OSError as error:
        assert error.errno in (errno.ENOSPC, errno.EACCES, errno.EROFS), error
print(total >> 20)
"""
_INODES = """
import errno, sys
for number in range(100_000):
    try:
        open(f"/tmp/{number}", "wb").close()
    except OSError as error:
        assert error.errno == errno.ENOSPC, error
        break
print(number)
"""
_FILES = """
import errno, os, resource
held = []
try:
    resource.setrlimit(resource.RLIMIT_NOFILE, (65_536, 65_536))
except (ValueError, OSError):
    pass
try:
    while len(held) < 1_000:
        held.append(os.open("/dev/null", os.O_RDONLY))
except OSError as error:
    assert error.errno == errno.EMFILE
print(len(held))
"""


@asynccontextmanager
async def limited(
    home: Path, capabilities: HostCapabilities, limits: Limits
) -> AsyncIterator[Host]:
    system = system_of(replace(idler("orders"), limits=limits), idler("payments"))
    async with running(home, system, capabilities) as host:
        await host.up("orders", "app")
        await host.up("payments", "app")
        yield host


async def ask(host: Host, script: str, *arguments: str) -> str:
    return (await host.inside("orders", PYTHON, "-c", script, *arguments)).strip()


_SLOW = pytest.mark.slow if os.geteuid() == 0 else ()
"""Who is not root tries rlimits anyway (test_rootless.py)."""


@pytest.fixture(params=["control groups", pytest.param("rlimits", marks=_SLOW)])
def counted(request: pytest.FixtureRequest, capabilities: HostCapabilities) -> HostCapabilities:
    """By control groups where there are some, and by process and user."""
    if request.param == "rlimits":
        return replace(capabilities, cgroups=())
    if not capabilities.cgroups:
        pytest.skip("there is no control group that we may divide")
    return capabilities


@pytest.mark.parametrize("bomb", [_FORKS, _THREADS], ids=["processes", "threads"])
async def test_a_fork_bomb_is_bounded(home: Path, counted: HostCapabilities, bomb: str) -> None:
    async with limited(home, counted, SMALL) as host:
        assert SMALL.processes - 8 <= int(await ask(host, bomb)) <= SMALL.processes
        # Others, and the app itself afterwards, start what they like.
        assert await host.inside("payments", PYTHON, "-c", "print(7)") == "7\n"
        await host.supervisor.restart_process("orders", "app")


async def test_more_is_allowed_where_more_is_declared(
    home: Path, counted: HostCapabilities
) -> None:
    """The sabotage of the test above, and of those below: the same attempts, wide limits."""
    async with limited(home, counted, LARGE) as host:
        assert await ask(host, _FORKS) == await ask(host, _THREADS) == "300"
        assert await ask(host, _BALLOON) == "all"
        assert int(await ask(host, _FILES)) > SMALL.files


async def test_a_memory_balloon_is_bounded(home: Path, counted: HostCapabilities) -> None:
    async with limited(home, counted, SMALL) as host:
        assert await ask(host, _BALLOON) in {"killed", "refused"}
        (pod,) = [p for p in await host.supervisor.status() if p.name == "orders"]
        (app,) = [p for p in pod.processes if p.name == "app"]
        assert (app.state, app.restarts) == ("running", 0)


async def test_many_balloons_share_one_budget(home: Path, capabilities: HostCapabilities) -> None:
    """What an rlimit cannot do, and a control group can."""
    if not capabilities.cgroups:
        pytest.skip("there is no control group that we may divide")
    many = _BALLOON.replace("257", "40").replace(
        "pid = os.fork()", "[os.fork() for _ in '12']; pid = os.fork()"
    )
    # Each holds what it has until the others have theirs, also on a busy machine.
    many = many.replace("    os._exit(0)", "    import time; time.sleep(5)\n    os._exit(0)")
    async with limited(home, capabilities, SMALL) as host:
        assert "killed" in await ask(host, many)


async def test_temporary_files_are_bounded_in_all(
    home: Path, capabilities: HostCapabilities
) -> None:
    """Also in the directories that a view is made of, which no program should write to."""
    async with limited(home, capabilities, SMALL) as host:
        places = ["/tmp", "/var/tmp", "/dev/shm", "/dev", "/run", "/var", "/", "/dev/../"]
        places.append(str(host.layout.state))
        assert int(await ask(host, _FILL, *places)) <= 2 * SMALL.temp_bytes / MEBIBYTE + 2
        assert int(await ask(host, _INODES)) <= 1_100


async def test_open_files_are_bounded(home: Path, capabilities: HostCapabilities) -> None:
    """The hard limit too: it cannot be raised from inside."""
    async with limited(home, capabilities, SMALL) as host:
        assert int(await ask(host, _FILES)) < SMALL.files


async def test_other_limits_hold_from_the_next_start(home: Path, counted: HostCapabilities) -> None:
    async with limited(home, counted, LARGE) as host:
        spec = host.pods["orders"]
        less = replace(spec.process("app"), limits=SMALL)
        others = [p for p in spec.processes if p.name != "app"]
        await host.supervisor.configure(replace(spec, processes=(*others, less)))
        await host.supervisor.restart_process("orders", "app")
        assert int(await ask(host, _FORKS)) <= SMALL.processes
        assert await ask(host, _BALLOON) != "all"


async def test_nothing_is_left_of_a_budget(home: Path, capabilities: HostCapabilities) -> None:
    if not capabilities.cgroups:
        pytest.skip("there is no control group that we may divide")
    async with limited(home, capabilities, SMALL) as host:
        groups = [Path(g) for g in host.layout.cgroups.groups("orders")]
        assert all(_procs(group) for group in groups)
        host.layout.cgroups.make("left-by-a-crash", SMALL.memory_bytes, SMALL.processes)
    assert not any(_exists(group.parent) for group in groups)


async def test_without_any_isolation_files_and_memory_are_bounded(home: Path) -> None:
    """All run as one user there, whose processes cannot be counted apart."""
    async with limited(home, HostCapabilities(Isolation.NONE, "a test says so."), SMALL) as host:
        assert int(await ask(host, _FILES)) < SMALL.files
        assert await ask(host, _BALLOON) == "refused"


def _procs(group: Path) -> list[str]:
    return (group / "cgroup.procs").read_text(encoding="ascii").split()


def _exists(path: Path) -> bool:
    return path.exists()
