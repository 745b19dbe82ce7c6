"""The system call filter, tried call by call from inside a pod, and by the programs that must run.

Each call is also made by who is not confined: one that fails there too proves nothing.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.runtime.conftest import Host, running
from tests.runtime.programs import idler, system_of
from watertight.runtime import confine, launch
from watertight.runtime.capabilities import HostCapabilities
from watertight.runtime.confine import ABSENT, FORBIDDEN
from watertight.runtime.pod_wire import ProcessWire

ABSENT_WORDS, FORBIDDEN_WORDS = "Function not implemented", "Operation not permitted"

_CALLS = """
import ctypes, json, os, signal, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
numbers = json.loads(sys.argv[1])
zeros = ctypes.create_string_buffer(256)
def call(name, *arguments):
    # In a child: some of these change who makes them.
    reader, writer = os.pipe()
    if not (pid := os.fork()):
        plain = [ctypes.c_ulong(a) if isinstance(a, int) else a for a in arguments]
        result = libc.syscall(ctypes.c_long(numbers[name]), *plain)
        os.write(writer, (b"" if result < 0 else b"done") or
                 os.strerror(ctypes.get_errno()).encode())
        os._exit(0)
    os.close(writer)
    said = b""
    while chunk := os.read(reader, 100):
        said += chunk
    os.close(reader)
    os.waitpid(pid, 0)
    return said.decode().removesuffix("done") or "done"
NEWUSER, SIGCHLD, UFFD_USER = 0x10000000, 17, 1
attributes = (ctypes.c_uint64 * 11)(NEWUSER, 0, 0, 0, SIGCHLD)
tries = {
    "clone": (NEWUSER | SIGCHLD, 0, 0, 0, 0),
    "unshare": (NEWUSER,),
    "clone3": (attributes, ctypes.sizeof(attributes)),
    "setns": (os.open("/proc/self/ns/user", os.O_RDONLY), 0),
    "ptrace": (0, 0, 0, 0),
    "process_vm_readv": (os.getpid(), 0, 0, 0, 0, 0),
    "kcmp": (os.getpid(), os.getpid(), 0, 0, 0),
    "userfaultfd": (UFFD_USER,),
    "fanotify_init": (0x200, 0),
    "bpf": (0, zeros, 48),
    "perf_event_open": (zeros, 0, 0xFFFFFFFFFFFFFFFF, 0xFFFFFFFFFFFFFFFF, 0),
    "open_tree": (0xFFFFFFFFFFFFFF9C, b"/", 1),
    "io_uring_setup": (4, zeros),
    "io_setup": (1, zeros),
    "keyctl": (0, 0xFFFFFFFD, 0),
    "seccomp": (1, 0, zeros),
    "setsockopt": (0, 1, 26, zeros, 16),
    "prctl": (22, 2, zeros, 0, 0),
    "personality": (0x0040000,),
}
print(json.dumps({name: call(name, *arguments) for name, arguments in tries.items()}))
"""
_NUMBERS = {
    name: numbers[confine._MACHINES[os.uname().machine].column]
    for table in (ABSENT, FORBIDDEN, confine._JUDGED)
    for name, numbers in table.items()
}

_SOCKETS = """
import json, os, socket
def attempt(*arguments):
    try: socket.socket(*arguments).close(); return "done"
    except OSError as error: return os.strerror(error.errno)
INET, STREAM, RAW = socket.AF_INET, socket.SOCK_STREAM, socket.SOCK_RAW
SCTP, MPTCP, NETFILTER = 132, 262, 12
tries = {"mptcp": (INET, STREAM, MPTCP), "netfilter": (socket.AF_NETLINK, RAW, NETFILTER),
         "alg": (38, 5, 0), "packet": (17, RAW, 0), "vsock": (40, STREAM, 0)}
found = {name: attempt(*arguments) for name, arguments in tries.items()}
allowed = [(socket.AF_UNIX, STREAM), (INET, STREAM), (socket.AF_INET6, STREAM),
           (INET, socket.SOCK_DGRAM), (INET, STREAM, 6), (socket.AF_NETLINK, RAW, 0)]
found["allowed"] = [attempt(*arguments) for arguments in allowed]
socket.socketpair()
print(json.dumps(found))
"""


async def _inside(host: Host, script: str, *arguments: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(
        await host.inside("orders", sys.executable, "-c", script, *arguments)
    )
    return found


def _outside(script: str, *arguments: str) -> dict[str, object]:
    run = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, check=True, timeout=30
    )
    found: dict[str, object] = json.loads(run.stdout)
    return found


async def test_what_no_service_needs_is_refused(home: Path, capabilities: HostCapabilities) -> None:
    """User namespaces by each of the three ways, tracing, and the kernel's sharp tools."""
    numbers = json.dumps(_NUMBERS)
    outside = _outside(_CALLS, numbers)
    assert {"unshare", "ptrace", "personality"} <= {n for n, w in outside.items() if w == "done"}
    async with running(home, system_of(idler("orders")), capabilities) as host:
        await host.up("orders", "app")
        found = await _inside(host, _CALLS, numbers)
    assert found.pop("prctl") == "Permission denied"
    refused = {name: ABSENT_WORDS if name in ABSENT else FORBIDDEN_WORDS for name in found}
    assert found == refused


async def test_unusual_sockets_are_refused(home: Path, capabilities: HostCapabilities) -> None:
    """IP without exotic protocols, Unix sockets, and of netlink what libraries ask."""
    async with running(home, system_of(idler("orders")), capabilities) as host:
        await host.up("orders", "app")
        found = await _inside(host, _SOCKETS)
    assert set(found.pop("allowed")) == {"done"}  # type: ignore[call-overload]
    family, protocol = "Address family not supported by protocol", "Protocol not supported"
    assert found == {
        "mptcp": protocol,
        "netfilter": protocol,
        "alg": family,
        "packet": family,
        "vsock": family,
    }


async def test_without_the_filter_the_check_would_say_so(
    home: Path, capabilities: HostCapabilities, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sabotage: what an app that is not confined may do."""
    confined = launch.process_wire

    def unconfined(*arguments: object) -> ProcessWire:
        return {**confined(*arguments), "confined": False}  # type: ignore[arg-type]

    monkeypatch.setattr(launch, "process_wire", unconfined)
    async with running(home, system_of(idler("orders")), capabilities) as host:
        await host.up("orders", "app")
        found = await _inside(host, _CALLS, json.dumps(_NUMBERS))
    # Zeros are no filter, and that was looked at.
    assert found["setsockopt"] == found["seccomp"] == found["prctl"] == "Invalid argument"
    assert found["unshare"] == found["ptrace"] == found["personality"] == "done"


def test_the_numbers_are_those_of_the_headers() -> None:
    headers = (
        Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
        Path("/usr/include/asm-generic/unistd.h"),
    )
    if not all(header.exists() for header in headers):
        pytest.skip("the kernel's headers are not installed")
    for column, header in enumerate(headers):
        known = dict(re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", header.read_text()))
        for table in (ABSENT, FORBIDDEN, confine._JUDGED):
            for name, numbers in table.items():
                assert numbers[column] is None or known.get(name) in {None, str(numbers[column])}
                assert name in known or name == "open_tree_attr" or numbers[column] is None


_PROGRAMS = {
    "node": ("node", "-e", "new (require('worker_threads').Worker)('console.log(7)',{eval:true})"),
    "java": ("java", "-version"),
    "go": ("go", "version"),
    "erl": ("erl", "-noshell", "-eval", 'io:format("7~n"), halt().'),
    "sh": ("/bin/sh", "-c", "echo 7 | cat; (sleep 0 &); wait; id"),
    "python": (
        sys.executable,
        "-c",
        "import multiprocessing as m, socket as s; m.Pool(2).map(abs, [-7]); s.if_nameindex()",
    ),
}


@pytest.mark.parametrize("name", _PROGRAMS)
async def test_common_programs_run_under_it(
    home: Path, capabilities: HostCapabilities, name: str
) -> None:
    program = _PROGRAMS[name]
    where = shutil.which(program[0])
    if where is None:
        pytest.skip(f"{name} is not installed")
    system = system_of(idler("orders"))
    if name == "go":  # in /usr/local, where a view shows a program only if `run` names it
        system = system_of(replace(idler("orders"), run=(where, "version")))
    async with running(home, system, capabilities) as host:
        await host.supervisor.start_pod(host.pods["orders"])
        command = ["/bin/sh", "-c", '"$@" 2>&1; echo "status $?"', "sh", where, *program[1:]]
        said = await host.inside("orders", *command)
    assert said.endswith("status 0\n"), said
