"""Starts one process in its sandbox: fork, namespaces, a root of its own, identity, exec.

With process namespaces there is a *warden* between the init and an app or server: pid 1 of the
program's own process namespace. It reaps what the program orphans, passes signals on, and
when it ends the kernel ends everything below it. A proxy needs none: it makes no processes, heeds
signals, and is pid 1 itself. A program sees neither another one's processes nor, in its own root
directory, anything that is not in its view (:mod:`watertight.runtime.mounts`).
"""

import contextlib
import errno
import json
import os
import resource
import select
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from watertight.errors import WatertightError
from watertight.runtime import linux
from watertight.runtime.cgroups import join
from watertight.runtime.confine import confine
from watertight.runtime.linux import MountFlag, Namespace
from watertight.runtime.memory import MemoryWatch, act_for, hurry
from watertight.runtime.pod_wire import LimitsWire, Mount, ProcessWire
from watertight.runtime.shared_memory import SharedMemory

_FORWARDED = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGWINCH,
)
_OPEN_FILES = 65_536
_EXPENDABLE = "500"
_EXPENDABLE_PROXY = "250"
"""Of -1000 to 1000 (proc_pid_oom_score_adj(5)); everything else here has 0."""
_SMALL = "mode=0755,size=1m,nr_inodes=8k"
"""For the directories of a view: nobody may keep anything in them."""
_IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)
_SIGNAL_BASE = 128
"""A warden's exit status above this: the program was ended by that signal, as shells tell it."""


class CannotRunError(WatertightError):
    """A program could not be started, in words that follow the service's name."""

    def __init__(self, what: str, error: OSError) -> None:
        remedy = "Look whether it is a program for this machine."
        if error.errno == errno.ENOEXEC:
            remedy = (
                "It is no program for this machine; a script begins with a line as "
                "`#!/usr/bin/env python3`."
            )
        if error.errno == errno.ENOENT:
            remedy = "What its first line (`#!`) or its loader asks for is not where it runs."
        if error.errno == errno.EACCES:
            remedy = (
                "If root started watertight, each app is a user of its own: let others read the "
                "project (chmod -R o+rX), or start watertight as the project's owner."
            )
        super().__init__(f"{what}: {error.strerror}", remedy=remedy)


def describe_exit(status: int) -> str:
    """What waitpid(2) says, in words: ``exit status 3``, ``killed by SIGKILL``."""
    code = os.waitstatus_to_exitcode(status)
    number = -code if code < 0 else code - _SIGNAL_BASE
    if number > 0:
        with contextlib.suppress(ValueError):
            return f"killed by {signal.Signals(number).name}"
    return f"exit status {code}"


def spawn(
    process: ProcessWire,
    *,
    isolate: bool,
    root: Path,
    stdin: int | None,
    output: tuple[int, int],
) -> tuple[int, int]:
    """Starts ``process``; returns the pid to wait for and a descriptor that tells of its exec.

    ``root`` is an empty directory on which its view is built; ``output`` the descriptors of its
    stdout and stderr. The returned descriptor ends (EOF) once exec succeeded; before that it
    yields one JSON object ``{error, remedy}`` if anything failed.
    """
    reader, writer = os.pipe()
    own_namespace = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC) if isolate else -1
    # Held back until the child has its own handlers: pid 1 of a namespace loses what it does not
    # handle, and ours would write to the init's wake-up descriptor.
    signal.pthread_sigmask(signal.SIG_BLOCK, _FORWARDED)
    try:
        if isolate:
            linux.unshare(Namespace.PID)  # only the next child is in it
        pid = os.fork()
    except BaseException:
        os.close(reader)
        os.close(writer)
        raise
    else:
        if not pid:
            _run_and_exit(writer, lambda: _sandboxed(process, isolate, root, stdin, output, writer))
        os.close(writer)
    finally:
        if isolate:
            linux.setns(own_namespace, Namespace.PID)
            os.close(own_namespace)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _FORWARDED)
    return pid, reader


def _run_and_exit(writer: int, work: Callable[[], None]) -> NoReturn:
    """Runs ``work`` in a forked child, tells ``writer`` of any failure, never returns."""
    try:
        work()
    except BaseException as error:  # noqa: BLE001  nothing may unwind into the parent's stack
        answer = {"error": str(error), "remedy": ""}
        if isinstance(error, WatertightError):
            answer = {"error": error.message, "remedy": error.remedy}
        with contextlib.suppress(OSError):
            os.write(writer, json.dumps(answer).encode())
    finally:
        os._exit(127)


def _sandboxed(
    process: ProcessWire,
    isolate: bool,
    root: Path,
    stdin: int | None,
    output: tuple[int, int],
    writer: int,
) -> None:
    os.setsid()
    join(process["groups"])
    _take_descriptors(stdin, output, writer)
    _restore_signals()
    if not isolate:
        _become(process, writer, die_with_init=True)
        return
    # Shared memory, semaphores and queues (System V's and POSIX's) outlive who made them, and end
    # with their namespace: the next start finds none of them, nor its memory budget full of them.
    linux.unshare(Namespace.IPC)
    if process["view"]:
        linux.unshare(Namespace.MOUNT)
        os.chdir("/")  # with the program it enters the new root, as what stands in the old one
    if process["first"]:
        _enter_and_become(process, root, writer)
        return
    # A fork shares each page that neither has written since. So whatever need not be done here,
    # in the process that stays, is done there, in the one that becomes another program.
    program = os.fork()
    if not program:
        _run_and_exit(writer, lambda: _enter_and_become(process, root, writer))
    os.close(writer)
    watch = watch_of(process, program)
    if watch is not None and process["credentials"] is not None:
        act_for(*process["credentials"])
    _guard(program, watch)


def _enter_and_become(process: ProcessWire, root: Path, writer: int) -> None:
    if process["view"]:
        linux.mount("none", Path("/"), flags=MountFlag.RECURSIVE | MountFlag.PRIVATE)
        build_root(root, [Mount(*step) for step in process["view"]])
        enter_root(root)
    _become(process, writer)


def _take_descriptors(stdin: int | None, output: tuple[int, int], writer: int) -> None:
    """0, 1 and 2 as told; of all others only ``writer`` stays open."""
    source = os.open(os.devnull, os.O_RDONLY) if stdin is None else stdin
    os.dup2(source, 0)
    os.dup2(output[0], 1)
    os.dup2(output[1], 2)
    os.closerange(3, writer)
    os.closerange(writer + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def _restore_signals() -> None:
    signal.set_wakeup_fd(-1)
    for number in (*_FORWARDED, *_IGNORED_BY_PYTHON, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)


def _guard(program: int, watch: MemoryWatch | None) -> NoReturn:
    """The warden: passes signals on and reaps, until ``program`` ends; then ends as it did."""
    linux.hide_memory()  # it may have the program's uid
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1) if watch else (0, 1, 2):
        os.dup2(null, descriptor)
    if watch:
        hurry()
    for number in _FORWARDED:
        signal.signal(number, lambda got, _frame: _pass_on(program, got))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _FORWARDED)
    while True:
        pid, status = os.waitpid(-1, os.WNOHANG if watch else 0)
        if pid == program:
            code = os.waitstatus_to_exitcode(status)
            os._exit(code if code >= 0 else _SIGNAL_BASE - code)
        if watch and not pid:
            pause = watch.look()
            _say(watch)
            time.sleep(pause)


def watch_of(process: ProcessWire, program: int) -> MemoryWatch | None:
    """Who looks after its memory, if that of its processes is bounded."""
    each, every = process["process_bytes"], process["processes_bytes"]
    if each is None or every is None:
        return None
    shared = SharedMemory() if process["view"] else None  # it is the program's own there
    return MemoryWatch(program, each, every, process["spared"], shared)


def _say(watch: MemoryWatch) -> None:
    """Into the program's log, and never waits for it."""
    for line in watch.said:
        if select.select([], [2], [], 0)[1]:
            os.write(2, f"watertight: {line}\n".encode())
    watch.said.clear()


def _pass_on(program: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(program, number)


def build_root(root: Path, view: list[Mount]) -> None:
    """Builds ``view`` under ``root``: an empty tmpfs in which only what is listed appears."""
    linux.mount("watertight", root, "tmpfs", MountFlag.NO_SUID | MountFlag.NO_DEVICES, _SMALL)
    for step in view:
        _build(root, step)
    linux.restrict_mount(root, MountFlag.READ_ONLY, recursive=False)


def _build(root: Path, step: Mount) -> None:
    target = root / step.target.lstrip("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    restrictions = MountFlag.NO_SUID
    if not step.devices:
        restrictions |= MountFlag.NO_DEVICES
    if step.kind == "symlink":
        target.symlink_to(step.source)
    elif step.kind == "directory":
        target.mkdir(exist_ok=True)
    elif step.kind == "tmpfs":
        target.mkdir(exist_ok=True)
        linux.mount("watertight", target, "tmpfs", restrictions, step.source or _SMALL)
    elif step.kind == "proc":
        target.mkdir(exist_ok=True)
        linux.mount("proc", target, "proc", restrictions | MountFlag.NO_EXECUTION)
    elif step.kind == "empty" and not target.exists():
        return
    else:
        source = Path(os.devnull if step.kind == "empty" else step.source)
        if source.is_dir():
            target.mkdir(exist_ok=True)
        elif not target.exists():
            target.touch()
        linux.mount(source, target, flags=MountFlag.BIND | MountFlag.RECURSIVE)
        if not step.writable:
            restrictions |= MountFlag.READ_ONLY
        linux.restrict_mount(target, restrictions)


def enter_root(root: Path) -> None:
    """Makes ``root`` the root of this mount namespace; what was there before is gone from it.

    All processes of the namespace whose root and directory were the old root have the new one
    then (pivot_root(2)).
    """
    os.chdir(root)
    # Both on one place: the old root then lies on top of the new one, and is taken off it
    # (pivot_root(2), "pivot_root(".", ".")").
    linux.pivot_root(Path(), Path())
    linux.detach(Path())
    os.chdir("/")


def _become(process: ProcessWire, writer: int, *, die_with_init: bool = False) -> None:
    """Gives up what the program must not have, and becomes it."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _FORWARDED)
    os.set_inheritable(writer, False)
    os.umask(process["umask"])
    # A core dump of a proxy would hold private keys.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _limit_files(process["limits"])
    _prefer_when_memory_is_short(_EXPENDABLE if process["limits"] else _EXPENDABLE_PROXY)
    _give_up_rights(process)
    if die_with_init:
        linux.die_with_parent(signal.SIGKILL)  # after the change of user, which forgets it
    directory, program = process["directory"], process["argv"][0]
    try:
        os.chdir(directory)
    except OSError as error:
        raise CannotRunError(f"cannot enter its directory {directory}", error) from error
    try:
        if process["process_most_bytes"] is not None:
            # At the very last, for this interpreter may hold more. Whoever watches may raise it.
            most, (_, hard) = (
                process["process_most_bytes"],
                resource.getrlimit(resource.RLIMIT_DATA),
            )
            soft = most if hard == resource.RLIM_INFINITY else min(hard, most)
            resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
        os.execve(program, process["argv"], process["environment"])  # noqa: S606
    except OSError as error:
        raise CannotRunError(f"cannot run {program}", error) from error


def _limit_files(limits: LimitsWire | None) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limits is None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, _OPEN_FILES)), hard))
    else:
        most = min(hard, limits["files"])
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _prefer_when_memory_is_short(before_others: str) -> None:
    """If the whole host is short of memory, an app ends before what keeps it closed in, and that
    before what is not ours."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(before_others, encoding="ascii")


def _limit_memory_and_processes(limits: LimitsWire) -> None:
    if limits["processes"] is not None:
        resource.setrlimit(resource.RLIMIT_NPROC, (limits["processes"],) * 2)
    if limits["data_bytes"] is not None:
        resource.setrlimit(resource.RLIMIT_DATA, (limits["data_bytes"],) * 2)


def _give_up_rights(process: ProcessWire) -> None:
    linux.forbid_new_privileges()
    if process["nested_user_namespace"]:
        uid, gid = os.geteuid(), os.getegid()
        linux.unshare(Namespace.USER)
        linux.map_only_this_user(uid, gid)
    if process["limits"] is not None:
        # After the change of namespace: what is counted is what is in it.
        _limit_memory_and_processes(process["limits"])
    try:
        linux.drop_bounding_set(but=linux.CAP_NET_BIND_SERVICE if process["low_ports"] else None)
    except linux.SystemCallError as error:
        # Without CAP_SETPCAP. "No new privileges" alone then keeps exec from giving any back.
        if error.errno != errno.EPERM:
            raise
    if process["credentials"] is not None:
        uid, gid = process["credentials"]
        if process["low_ports"]:
            linux.keep_capabilities()
        os.setgroups([])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    if process["low_ports"]:
        linux.keep_only(linux.CAP_NET_BIND_SERVICE)
    else:
        linux.drop_capabilities()
    if process["confined"]:
        confine()
