"""Starts a pod: writes down what it is, and starts the process that becomes it."""

import asyncio
import contextlib
import json
import os
import secrets
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

from watertight.model.system import Limits
from watertight.runtime.capabilities import Isolation
from watertight.runtime.cgroups import Cgroups
from watertight.runtime.environment import mark
from watertight.runtime.files import write_atomically
from watertight.runtime.layout import Layout
from watertight.runtime.linux import Namespace
from watertight.runtime.logfile import trim
from watertight.runtime.netlink import MOST_UNREAD_BYTES
from watertight.runtime.pod_client import Pod, PodError
from watertight.runtime.pod_spec import PROXY, PodSpec, ProcessSpec
from watertight.runtime.pod_wire import LimitsWire, PodWire, ProcessWire
from watertight.runtime.proc import start_time
from watertight.runtime.waiting import readable

_START_SECONDS = 30.0
_LONGEST_NAME = 64
_PROXY_THREADS = 1024
"""One a processor at the gateway, and a few."""
_POD_LOG_BYTES = 1024 * 1024
"""What the init itself says, which is nothing unless it fails."""


def process_wire(spec: PodSpec, process: ProcessSpec, layout: Layout) -> ProcessWire:
    """One process as its init reads it."""
    isolation = layout.capabilities.isolation
    environment = {**process.environment, **mark(layout, spec.name)}
    return {
        "name": process.name,
        "argv": list(process.argv),
        "environment": environment,
        "directory": str(process.directory),
        "umask": process.umask,
        "stop_signal": int(process.stop_signal),
        "view": [list(step) for step in process.view],
        "credentials": list(process.credentials) if process.credentials else None,
        "nested_user_namespace": isolation is Isolation.USER_NAMESPACES and process.name != PROXY,
        "low_ports": process.low_ports and process.credentials is not None,
        "first": process.name == PROXY,
        "confined": True,
        "log": str(layout.log(spec.name, process.name)),
        "access_log": str(layout.access_log(spec.name)) if process.name == PROXY else "",
        "limits": _limits(process, process.limits, layout) if process.limits else None,
        "process_bytes": process.process_bytes,
        "process_most_bytes": process.process_most_bytes,
        "processes_bytes": process.processes_bytes,
        "spared": list(process.spared),
        "groups": _groups(spec.name, process, layout),
        "settled": dict(process.settled),
    }


def _limits(process: ProcessSpec, limits: Limits, layout: Layout) -> LimitsWire:
    if layout.cgroups:
        return {"files": limits.files, "processes": None, "data_bytes": None}
    alone = layout.capabilities.isolation is not Isolation.NONE and _counts_by_namespace()
    return {
        "files": limits.files,
        # Without a user, or at least a user namespace, of its own, others would be counted too.
        "processes": limits.processes if alone else None,
        # Where an allocation must not fail, its processes are watched instead.
        "data_bytes": limits.memory_bytes if process.process_bytes is None else None,
    }


def _counts_by_namespace() -> bool:
    """Since Linux 5.14, RLIMIT_NPROC counts a user's processes in each user namespace anew."""
    major, minor = os.uname().release.split(".")[:2]
    return os.geteuid() == 0 or (int(major), int(minor)) >= (5, 14)


def make_budgets(spec: PodSpec, layout: Layout) -> None:
    """The control groups of a pod's program, and of its proxy. Raises BudgetError."""
    for process in spec.processes:
        if process.limits is not None:
            layout.cgroups.make(spec.name, process.limits.memory_bytes, process.limits.processes)
        elif process.memory_bytes is not None:
            layout.cgroups.make(_of_proxy(spec.name), process.memory_bytes, _PROXY_THREADS)


def _groups(pod: str, process: ProcessSpec, layout: Layout) -> list[str]:
    if process.limits is not None:
        return layout.cgroups.groups(pod)
    return layout.cgroups.groups(_of_proxy(pod)) if process.memory_bytes is not None else []


def _of_proxy(pod: str) -> str:
    """The proxy's own budget: what is done to it takes nothing from the program beside it."""
    return f"{pod}@{PROXY}"


def make_guest_budget(pod: str, limits: Limits | None, layout: Layout) -> list[str]:
    """The groups for one program that runs beside a pod's own: as large, and nobody else's.

    Removes those of guests that have left. No workload's name has a dot.
    """
    budgets = _budgets_of(pod, layout)
    budgets.tidy(f"{pod}.")
    if limits is None or not budgets:
        return []
    guest = f"{pod}.{secrets.token_hex(4)}"
    budgets.make(guest, limits.memory_bytes, limits.processes)
    return budgets.groups(guest)


def remove_budgets(pod: str, layout: Layout) -> None:
    """Once nothing runs in the pod any more."""
    for budgets in (_budgets_of(pod, layout), layout.cgroups):
        budgets.remove(pod)
        budgets.remove(_of_proxy(pod))
        budgets.tidy(f"{pod}.")  # the last ones go with the system
        budgets.leave()


def _budgets_of(pod: str, layout: Layout) -> Cgroups:
    """Where whoever started the pod made its groups: we may be in another part of the tree."""
    try:
        processes = json.loads((layout.pod(pod) / "spec.json").read_bytes())["processes"]
        groups: list[str] = next((p["groups"] for p in processes if p["groups"]), [])
    except (OSError, ValueError, KeyError, TypeError):
        return layout.cgroups
    return Cgroups.beside(groups)


def pod_wire(spec: PodSpec, layout: Layout) -> PodWire:
    """One pod as its init reads it."""
    isolation = layout.capabilities.isolation
    namespaces = Namespace(0)
    if isolation is not Isolation.NONE:
        namespaces = Namespace.PID
        if spec.network == "namespace":
            namespaces |= Namespace.NETWORK | Namespace.UTS
        if isolation is Isolation.USER_NAMESPACES:
            namespaces |= Namespace.USER
    return {
        "name": spec.name,
        "directory": str(layout.pod(spec.name)),
        "namespaces": int(namespaces),
        "isolate_processes": isolation is not Isolation.NONE,
        "unread_bytes": MOST_UNREAD_BYTES if namespaces & Namespace.NETWORK else None,
        "processes": [process_wire(spec, p, layout) for p in spec.processes],
    }


def write_hosts(path: Path, hosts: Mapping[str, str]) -> None:
    """Writes a hosts file (hosts(5)) in place: it is bind-mounted, so the inode must stay.

    Each name also with the dot of a name from the root (RFC 1034 section 3.1), which glibc compares
    like any other character.
    """
    lines = [*hosts.items(), ("localhost", "::1")]
    text = "".join(f"{address}\t{name} {name}.\n" for name, address in lines)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    try:
        os.fchmod(descriptor, 0o644)
        written = os.write(descriptor, text.encode("ascii"))
        os.ftruncate(descriptor, written)
    finally:
        os.close(descriptor)


class Nursery:
    """Our end of :mod:`watertight.runtime.nursery`: started at the first pod, ended by close."""

    def __init__(self, run_directory: Path) -> None:
        self._run_directory = run_directory
        self._socket: socket.socket | None = None
        self._pid = 0

    def prepare(self) -> socket.socket:
        """Has it start, unless it runs: that takes a while. Returns where to ask."""
        if self._socket is None:
            self._socket = self._start()
        return self._socket

    def ask(self, directory: Path) -> int:
        """Asks for the pod of ``directory``; returns the pipe on which it says how it went."""
        reader, writer = os.pipe()
        try:
            try:
                self._send(directory, writer)
            except (BrokenPipeError, ConnectionResetError):  # somebody ended it
                self.close()
                self._send(directory, writer)
        except BaseException:
            os.close(reader)
            raise
        finally:
            os.close(writer)
        return reader

    def close(self) -> None:
        """Ends it. Pods do not end with it."""
        if self._socket is None:
            return
        self._socket.close()
        self._socket = None
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self._pid, 0)

    def _send(self, directory: Path, writer: int) -> None:
        socket.send_fds(self.prepare(), [os.fsencode(directory)], [writer])

    def _start(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            argv = [sys.executable, "-I", "-m", "watertight.runtime.nursery"]
            self._pid = os.posix_spawn(
                sys.executable,
                # The blanks are room for the names of the pods.
                [*argv, str(self._run_directory), " " * _LONGEST_NAME],
                {"PATH": os.defpath, "LANG": "C.UTF-8"},
                file_actions=[(os.POSIX_SPAWN_DUP2, theirs.fileno(), 0)],
                setsid=True,
            )
        return ours


async def launch(spec: PodSpec, layout: Layout, nursery: Nursery) -> Pod:
    """The running pod (with no process started in it yet).

    Raises :class:`watertight.runtime.pod_client.PodError` if it does not come up.
    """
    directory = layout.pod(spec.name)
    make_budgets(spec, layout)
    write_hosts(directory / "hosts", spec.hosts)
    write_atomically(directory / "spec.json", json.dumps(pod_wire(spec, layout)).encode())
    trim(directory / "pod.log", limit_bytes=_POD_LOG_BYTES)
    try:
        reader = nursery.ask(directory)
        try:
            async with asyncio.timeout(_START_SECONDS):
                told = json.loads(await _line(reader))
        finally:
            os.close(reader)  # whoever starts it sees that we have given up
        if "error" in told:
            raise PodError(f"The pod of {spec.name} did not start: {told['error']}")
        pid = int(told["pid"])
        return Pod(spec.name, directory, pid, start_time(pid) or 0)
    except BaseException as error:
        _end(spec.name, directory)
        if isinstance(error, (OSError, ValueError, TimeoutError)):
            raise PodError(
                f"The pod of {spec.name} did not start.", remedy=f"Read {directory}/pod.log."
            ) from error
        raise


def _end(name: str, directory: Path) -> None:
    """Ends a pod that did not come up, as far as it came."""
    unfinished = Pod.recorded(name, directory)
    if unfinished is not None:
        unfinished.kill()
        unfinished.forget()


async def _line(descriptor: int) -> bytes:
    """What is written to a pipe, up to the line's end or the pipe's."""
    os.set_blocking(descriptor, False)
    received = b""
    while not received.endswith(b"\n"):
        await readable(descriptor)
        data = os.read(descriptor, 65536)
        if not data:
            break
        received += data
    return received
