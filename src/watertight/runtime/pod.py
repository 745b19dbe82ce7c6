"""The beginning of a pod: a fork of the nursery that makes the namespaces and forks the init.

Reads ``DIRECTORY/spec.json``, makes the pod's namespaces, forks its init into them, writes down in
``DIRECTORY/pod.json`` who that is, says so and ends. The init survives whoever asked for it.
"""

import gc
import json
import os
import resource
import signal
import socket
import sys
from pathlib import Path
from typing import NoReturn

from watertight.errors import WatertightError
from watertight.runtime import linux
from watertight.runtime.files import write_atomically
from watertight.runtime.linux import Namespace
from watertight.runtime.pod_init import Init
from watertight.runtime.pod_wire import PodWire
from watertight.runtime.proc import boot_id, start_time
from watertight.runtime.runs import INIT, RECORD

SPEC = "spec.json"
LOG = "pod.log"
_TCP_BYTES = 262_144
"""Of one socket. There is loopback only, where nothing is under way for long."""


def run_and_exit(directory: str, answers: int) -> NoReturn:
    """Becomes the pod's first process, in a fork of the nursery. Never returns.

    Says one line of JSON on ``answers``: ``{"pid": …}``, the init's as we see it, or ``{"error"}``.
    """
    status = 1
    try:
        _make(Path(directory), answers)
        status = 0
    except BaseException as error:  # noqa: BLE001  a forked child must not unwind further
        tell(1, {"error": str(error) or type(error).__name__})
    finally:
        os._exit(status)


def tell(descriptor: int, answer: dict[str, object]) -> bool:
    """Says how it went, once; whether anybody still wanted to know."""
    try:
        os.write(descriptor, json.dumps(answer).encode() + b"\n")
    except OSError:
        return False
    return True


def _make(directory: Path, answers: int) -> None:
    os.setsid()
    os.umask(0o022)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _take_descriptors(directory / LOG, answers)
    linux.rename(f"{os.fsdecode(INIT)}{directory}")  # by which `runs` finds it
    pod: PodWire = json.loads((directory / SPEC).read_bytes())
    operator_uid, operator_gid = os.geteuid(), os.getegid()
    namespaces = Namespace(pod["namespaces"])
    if namespaces & Namespace.USER:
        linux.unshare(Namespace.USER)
        linux.map_only_this_user(operator_uid, operator_gid)
    if namespaces & ~Namespace.USER:
        linux.unshare(namespaces & ~Namespace.USER)
    pid = _fork_init(pod, operator_uid)
    if not tell(1, {"pid": pid}):
        os.kill(pid, signal.SIGKILL)  # whoever asked has given up


def _take_descriptors(log: Path, answers: int) -> None:
    """Nothing is read, 1 answers, 2 is the pod's own log; no other stays open."""
    null = os.open(os.devnull, os.O_RDONLY)
    errors = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for number, descriptor in enumerate((null, answers, errors)):
        os.dup2(descriptor, number)
    os.closerange(3, resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def _fork_init(pod: PodWire, operator_uid: int) -> int:
    """The init waits until it is written down: nobody must ever have to guess what runs."""
    reader, writer = os.pipe()
    ready_reader, ready_writer = os.pipe()
    pid = os.fork()
    if pid:
        os.close(reader)
        os.close(ready_writer)
        record = {"pid": pid, "start_time": start_time(pid), "boot_id": boot_id()}
        write_atomically(Path(pod["directory"]) / RECORD, json.dumps(record).encode())
        os.write(writer, b"!")
        failure = os.read(ready_reader, 65536)
        if failure:
            raise WatertightError(failure.decode())
        return pid
    os.close(writer)
    os.close(ready_reader)
    if os.read(reader, 1) != b"!":
        os._exit(1)
    os.close(reader)
    try:
        init = _prepare(pod, operator_uid)
    except BaseException as error:  # noqa: BLE001  a forked child must not unwind further
        os.write(ready_writer, str(error).encode() or b"?")
        os._exit(1)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 1)
    os.close(null)
    os.close(ready_writer)
    status = 1
    try:
        init.run()
        status = 0
    except BaseException:  # noqa: BLE001  it must not unwind into the nursery's loop
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(status)


def _prepare(pod: PodWire, operator_uid: int) -> Init:
    namespaces = Namespace(pod["namespaces"])
    if namespaces & Namespace.UTS:
        socket.sethostname(pod["name"])
    if namespaces & Namespace.NETWORK:
        linux.bring_up_loopback()
        # So that an unprivileged proxy can stand on the port its callee is known by, also 80.
        linux.open_all_ports()
        linux.narrow_tcp(_TCP_BYTES)
    if not namespaces & Namespace.PID:
        linux.adopt_orphans()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    init = Init(pod, operator_uid=operator_uid)
    init.listen()
    gc.freeze()  # what was imported is never collected, so its pages stay shared with the children
    return init
