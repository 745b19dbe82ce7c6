"""What a compromised app tries against its own pod. Each attempt that must fail is also shown to
work for the operator, so that a check which could not fail would be noticed."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.runtime.conftest import Host, running
from tests.runtime.programs import idler, system_of
from tests.runtime.test_plumbing import tcp, write_bootstrap
from watertight.runtime.capabilities import HostCapabilities
from watertight.runtime.confine import UnknownMachineError, program
from watertight.runtime.pod_wire import Mount
from watertight.runtime.proc import descendants

PYTHON = sys.executable

_ATTACK = """
import ctypes, json, os, sys, signal
libc = ctypes.CDLL(None, use_errno=True)
def attempt(work):
    try: work(); return "done"
    except OSError as error: return os.strerror(error.errno)
def call(name, *arguments):
    if getattr(libc, name)(*arguments) < 0: raise OSError(ctypes.get_errno(), name)
"""

_SEE = (
    _ATTACK
    + """
print(json.dumps({path: os.path.exists(path) for path in sys.argv[1:]}))
"""
)

_PROCESSES = (
    _ATTACK
    + """
PTRACE_ATTACH = 16
found = {"pids": sorted(int(p) for p in os.listdir("/proc") if p.isdigit())}
for path in ("/proc/1/root/etc", "/proc/1/fd", "/proc/1/cwd/"):
    found[path] = attempt(lambda: os.listdir(path))
found["memory"] = attempt(lambda: open("/proc/1/mem", "rb"))
found["environment"] = attempt(lambda: open("/proc/1/environ", "rb").read())
found["ptrace"] = attempt(lambda: call("ptrace", PTRACE_ATTACH, 1, 0, 0))
for pid in map(int, sys.argv[1:]):
    found[f"kill {pid}"] = attempt(lambda: os.kill(pid, signal.SIGKILL)) if pid > 50 else "skipped"
print(json.dumps(found))
"""
)

_MOUNTS = (
    _ATTACK
    + """
NEWNS, NEWUSER, DETACH, BIND = 0x20000, 0x10000000, 2, 4096
hidden = sys.argv[1]
found = {"umount": attempt(lambda: call("umount2", hidden.encode(), DETACH))}
found["hosts"] = attempt(lambda: open("/etc/hosts", "w"))
uid, gid = os.getuid(), os.getgid()
def own():
    call("unshare", NEWUSER | NEWNS)
    open("/proc/self/setgroups", "w").write("deny")
    open("/proc/self/uid_map", "w").write(f"0 {uid} 1")
    open("/proc/self/gid_map", "w").write(f"0 {gid} 1")
found["own namespace"] = attempt(own)
found["umount there"] = attempt(lambda: call("umount2", hidden.encode(), DETACH))
found["umount / there"] = attempt(lambda: call("umount2", b"/", DETACH))
found["hidden"] = os.listdir(hidden)
capabilities = [l for l in open("/proc/self/status") if l.startswith(("NoNewPrivs", "Seccomp:"))]
found["status"] = capabilities
print(json.dumps(found))
"""
)

_RIGHTS = """
import json, os
lines = {}
for line in open("/proc/self/status"):
    name, _, value = line.partition(":")
    lines[name] = value.strip()
print(json.dumps({k: lines[k] for k in ("CapEff", "CapPrm", "CapInh", "CapBnd", "CapAmb",
      "NoNewPrivs", "Groups")} | {"interfaces": os.listdir("/proc/self/net/dev_snmp6")
      if os.path.isdir("/proc/self/net/dev_snmp6") else ["lo"]}))
"""


_WAYS_OUT = (
    _ATTACK
    + """
import socket
libc.syscall.restype = ctypes.c_long
def raw(number, *arguments):
    if libc.syscall(ctypes.c_long(number), *arguments) < 0:
        raise OSError(ctypes.get_errno(), "syscall")
AF_ALG, AF_VSOCK, AF_PACKET = 38, 40, 17
found = {}
for family in (AF_ALG, AF_VSOCK, AF_PACKET, 1 << 32 | AF_VSOCK):
    found[f"family {family}"] = attempt(lambda: raw(int(sys.argv[1]), ctypes.c_ulong(family), 1, 0))
ring = ctypes.create_string_buffer(256)
found["io_uring"] = attempt(lambda: raw(425, 4, ring))
found["keyctl"] = attempt(lambda: raw(int(sys.argv[2]), 0, ctypes.c_int(-3), 0))
for family in (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6):
    socket.socket(family).close()
found["interfaces"] = [name for _, name in socket.if_nameindex()]
print(json.dumps(found))
"""
)


async def attack(host: Host, script: str, *arguments: str) -> dict[str, object]:
    """What the script found, run as the app of ``orders``."""
    said = await host.inside("orders", PYTHON, "-c", script, *arguments)
    found: dict[str, object] = json.loads(said)
    return found


async def test_an_app_sees_nothing_that_is_not_its_own(
    home: Path, capabilities: HostCapabilities
) -> None:
    """Neither doors nor keys nor other services' data nor anybody's home nor the host's /run."""
    system = system_of(idler("orders"), idler("payments"))
    for name in ("orders", "payments"):  # as docs/how-to/secure-a-service.md says, before any start
        directory = home / "project/.watertight/data" / name
        for made in (*reversed(directory.parents[:2]), directory):
            made.mkdir(mode=0o700, exist_ok=True)
        (directory / "db-password").write_text(f"of {name}", encoding="utf-8")
        (directory / "db-password").chmod(0o444)
    async with running(home, system, capabilities) as host:
        await host.up("orders", "app")
        layout = host.layout
        (layout.state / "authority").mkdir()
        own_secret = layout.data("orders") / "db-password"
        secret = home / "elsewhere"
        secret.write_text("not the project's", encoding="utf-8")
        hidden = [
            layout.run / "mesh",
            layout.placement.proxy_directory("orders"),
            layout.placement.xds_socket("orders").parent,
            layout.placement.workload_api_socket("payments").parent,
            layout.data("payments"),
            layout.data("payments") / "db-password",
            layout.pod("orders") / "pod.sock",
            layout.state / "authority",
            layout.logs,
            secret,
            Path("/sys/class/net"),
            Path("/var/lib"),
        ]
        shown = [
            layout.declaration,
            layout.data("orders"),
            own_secret,
            layout.placement.workload_api_socket("orders").parent,
            Path(PYTHON),
        ]
        assert all(map(_exists, [*hidden, *shown]))
        seen = await attack(host, _SEE, *map(str, [*hidden, *shown]))
        read = await host.inside("orders", PYTHON, "-c", f"print(open('{own_secret}').read())")
    assert seen == {str(p): False for p in hidden} | {str(p): True for p in shown}
    assert read == "of orders\n"


async def test_an_app_touches_no_process_but_its_own(
    home: Path, capabilities: HostCapabilities
) -> None:
    """It sees only itself and its warden, and of that neither memory, files nor root."""
    async with running(home, system_of(idler("orders")), capabilities) as host:
        pipe: dict[str, object] = {"pipe": {"path": str(host.layout.placement.door("orders", "x"))}}
        write_bootstrap(host, "orders", pipe, tcp("127.0.0.1", 8000))
        await host.up("orders", "proxy", "app")
        init = host.supervisor.pods["orders"].pid
        theirs = [init, *descendants(init)]
        assert len(theirs) == 4  # the init, the proxy, the app's warden and the app
        found = await attack(host, _PROCESSES, *map(str, theirs))
        assert host.supervisor.pods["orders"].running()
        assert set(theirs) <= {init, *descendants(init)}
    denied = {"Permission denied", "Operation not permitted"}
    assert found.pop("pids") == [1, 2]
    assert {found.pop(f"kill {pid}") for pid in theirs} <= {"No such process", "skipped"}
    assert set(map(str, found.values())) <= denied, found


async def test_an_app_cannot_take_its_blinkers_off(
    home: Path, capabilities: HostCapabilities
) -> None:
    """Not even as "root" of a user namespace that it makes for itself."""
    async with running(home, system_of(idler("orders")), capabilities) as host:
        await host.up("orders", "app")
        hidden = host.layout.state
        assert len(_names_in(hidden)) > 1
        found = await attack(host, _MOUNTS, str(hidden))
    assert found["umount"] == "Operation not permitted"
    assert found["hosts"] in {"Permission denied", "Read-only file system"}
    # Whether or not the kernel gives it a namespace of its own, what is hidden stays hidden.
    assert found["umount there"] in {"Operation not permitted", "Invalid argument"}
    assert found["umount / there"] in {"Operation not permitted", "Invalid argument"}
    assert found["hidden"] == ["data"]
    assert found["status"] == ["NoNewPrivs:\t1\n", "Seccomp:\t2\n"]


async def test_an_app_has_no_rights(home: Path, capabilities: HostCapabilities) -> None:
    """No capability in any set, no new privileges, no interface but lo."""
    async with running(home, system_of(idler("orders")), capabilities) as host:
        await host.up("orders", "app")
        found = await attack(host, _RIGHTS)
    assert found.pop("interfaces") == ["lo"]
    assert found.pop("NoNewPrivs") == "1"
    assert str(found.pop("Groups")).split() in (
        [],
        [str(os.getegid())],
        [str(host.layout.users.app("orders").gid)] if host.layout.users else [],
    )
    assert set(map(str, found.values())) == {"0" * 16}


async def test_no_way_leads_around_the_namespaces(
    home: Path, capabilities: HostCapabilities
) -> None:
    """No socket of the hypervisor's or the kernel's own kinds, no io_uring, no key ring.

    The operator, who is not confined, may make at least one of them: so the calls are right.
    """
    socket_number, keyctl = {"x86_64": (41, 250), "aarch64": (198, 219)}[os.uname().machine]
    numbers = (str(socket_number), str(keyctl))
    assert "done" in _unconfined(_WAYS_OUT, *numbers).values()
    async with running(home, system_of(idler("orders")), capabilities) as host:
        await host.up("orders", "app")
        found = await attack(host, _WAYS_OUT, *numbers)
    assert found.pop("interfaces") == ["lo"]
    assert found.pop("io_uring") == found.pop("keyctl") == "Function not implemented"
    assert set(map(str, found.values())) == {"Address family not supported by protocol"}


def test_only_known_machines_are_confined() -> None:
    """A filter with another machine's numbers would allow what it should refuse."""
    with pytest.raises(UnknownMachineError, match="Apps cannot be confined on vax"):
        program("vax")
    for machine in ("x86_64", "aarch64"):
        assert len(program(machine)) % 8 == 0


async def test_a_view_that_shows_too_much_would_be_noticed(
    home: Path, capabilities: HostCapabilities
) -> None:
    """The sabotage: one mount more, and the check above sees the doors."""
    async with running(home, system_of(idler("orders")), capabilities) as host:
        spec = host.pods["orders"]
        app = spec.process("app")
        mesh = str(host.layout.run / "mesh")
        weak = replace(app, view=(*app.view, Mount("bind", mesh, mesh)))
        await host.supervisor.start_pod(replace(spec, processes=(weak,)))
        seen = await attack(host, _SEE, mesh)
    assert seen == {mesh: True}


def _unconfined(script: str, *arguments: str) -> dict[str, object]:
    run = subprocess.run(
        [PYTHON, "-c", script, *arguments], capture_output=True, check=True, timeout=30
    )
    found: dict[str, object] = json.loads(run.stdout)
    return found


def _exists(path: Path) -> bool:
    return path.exists()


def _names_in(path: Path) -> list[str]:
    return [entry.name for entry in path.iterdir()]
