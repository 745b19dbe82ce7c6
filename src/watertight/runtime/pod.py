"""The entry of a pod: ``python -I -m watertight.runtime.pod DIRECTORY``.

Reads ``DIRECTORY/spec.json``, makes the pod's namespaces, forks its init into them, writes down in
``DIRECTORY/pod.json`` who that is, and then only waits for it, so that whoever started this process
can reap it. The init survives this process and the one that started it.
"""

import contextlib
import gc
import json
import os
import resource
import signal
import socket
import sys
from pathlib import Path

from watertight.errors import WatertightError
from watertight.runtime import linux
from watertight.runtime.files import write_atomically
from watertight.runtime.init import Init
from watertight.runtime.linux import Namespace
from watertight.runtime.proc import boot_id, start_time
from watertight.runtime.wire import PodWire

SPEC = "spec.json"
RECORD = "pod.json"


def main(directory: Path) -> int:
    """Prints one line of JSON: ``{"pid": …}``, the init's as we see it, or ``{"error"}``."""
    os.umask(0o022)
    os.closerange(3, resource.getrlimit(resource.RLIMIT_NOFILE)[0])  # what a shell left open
    pod: PodWire = json.loads((directory / SPEC).read_bytes())
    operator_uid, operator_gid = os.geteuid(), os.getegid()
    try:
        namespaces = Namespace(pod["namespaces"])
        if namespaces & Namespace.USER:
            linux.unshare(Namespace.USER)
            linux.map_only_this_user(operator_uid, operator_gid)
        if namespaces & ~Namespace.USER:
            linux.unshare(namespaces & ~Namespace.USER)
        pid = _fork_init(pod, operator_uid)
    except (WatertightError, OSError) as error:
        _tell({"error": str(error)})
        return 1
    _tell({"pid": pid})
    _, status = os.waitpid(pid, 0)
    return 0 if status == 0 else 1


def _tell(answer: dict[str, object]) -> None:
    """Speaks to whoever started this pod, once; from then on nothing ties the two."""
    with contextlib.suppress(OSError):
        os.write(1, json.dumps(answer).encode() + b"\n")
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 1)
    os.close(null)


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
        os.close(writer)
        failure = os.read(ready_reader, 65536)
        os.close(ready_reader)
        if failure:
            os.waitpid(pid, 0)
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
    if not namespaces & Namespace.PID:
        linux.adopt_orphans()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    init = Init(pod, operator_uid=operator_uid)
    init.listen()
    gc.freeze()  # what was imported is never collected, so its pages stay shared with the children
    return init


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
