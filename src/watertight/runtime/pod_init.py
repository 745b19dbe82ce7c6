"""A pod's init: starts its processes, starts them again, keeps what they say, obeys one socket.

It is pid 1 of the pod's process namespace and needs nobody: while the control process is dead it
goes on. One thread, one ``selectors`` loop, the standard library's smallest modules: there is one
of these a service, and memory counts.

The socket takes one request a connection, a line of JSON ``{"op": …}``, and answers with one,
``{"ok": true, …}`` or ``{"error": …, "remedy": …}``. Operations: ``start``, ``stop``, ``signal``
(of ``process``), ``status``, ``configure`` (``processes``), ``execute`` (``argv``, ``groups``; the
connection becomes stdin and stdout), ``socket`` (an unconnected TCP socket of this network
namespace, or with ``kind`` ``packet`` an unbound packet socket, passed by SCM_RIGHTS),
``shutdown``.
"""

import contextlib
import json
import os
import selectors
import signal
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from watertight.runtime.accesslog import AccessLog
from watertight.runtime.child import Child
from watertight.runtime.linux import SystemCallError
from watertight.runtime.logfile import RotatingLog
from watertight.runtime.overuse import Overuse
from watertight.runtime.pod_wire import PROXY, PodWire, ProcessWire
from watertight.runtime.sandbox import describe_exit, spawn

CONTROL_SOCKET = "pod.sock"
_LONGEST_REQUEST_BYTES = 4 * 1024 * 1024
_CHUNK_BYTES = 64 * 1024
_TERM_GRACE_SECONDS = 5.0
_PROXY_GRACE_SECONDS = 2.0
"""A proxy has nothing to finish once its app is gone."""


_Told = Callable[[dict[str, str] | None], None]


class RequestRefusedError(Exception):
    """A request that cannot be done; the text is the answer."""


class _Connection:
    """One request on its way in."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.received = b""

    def answer(self, body: dict[str, Any]) -> None:
        """Sends the one answer and closes; a caller who has left is no matter."""
        with contextlib.suppress(OSError):
            self.socket.setblocking(True)
            self.socket.settimeout(1.0)
            self.socket.sendall(json.dumps(body).encode() + b"\n")
        self.socket.close()


class Init:
    """The loop. ``operator_uid``: the only user (besides root) whose requests are heard."""

    def __init__(self, pod: PodWire, *, operator_uid: int) -> None:
        self._pod = pod
        self._directory = Path(pod["directory"])
        self._operator_uid = operator_uid
        self._children = {p["name"]: Child(p) for p in pod["processes"]}
        self._logs: dict[str, RotatingLog | AccessLog] = {}
        self._guests: dict[int, ProcessWire] = {}
        """Pids of what ``execute`` started, the oldest first: reaped, never restarted."""
        self._waiting: list[tuple[Callable[[], dict[str, Any] | None], _Connection]] = []
        """Answers owed: a function that gives the answer once there is one."""
        self._starting: dict[int, tuple[int, _Told]] = {}
        """Pid → the descriptor that tells of its exec, and who wants to know."""
        self._overuse = Overuse(pod)
        self._selector = selectors.DefaultSelector()
        self._leaving = False
        self._terminated = False

    def run(self) -> None:
        """Serves until ``shutdown`` or SIGTERM has ended every process."""
        self._hear_signals()
        while not (self._leaving and all(c.pid is None for c in self._children.values())):
            for key, _ in self._selector.select(self._patience()):
                key.data(key.fileobj)
            if self._terminated and not self._leaving:
                self._leave(_TERM_GRACE_SECONDS)
            self._reap()
            if self._leaving:
                self._let_the_proxy_go()
            self._do_what_is_due(time.monotonic())
            self._act_on_overuse()
            self._settle()
        self._settle()
        for log in self._logs.values():
            log.close()

    # -- the socket

    def listen(self) -> None:
        """Opens the control socket; requests wait in it until :meth:`run`."""
        path = self._directory / CONTROL_SOCKET
        path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        old = os.umask(0o177)
        try:
            listener.bind(str(path))
        finally:
            os.umask(old)
        listener.listen(64)
        listener.setblocking(False)
        self._selector.register(listener, selectors.EVENT_READ, self._accept)

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):  # whoever knocked has left, or descriptors are short
            connection, _ = listener.accept()
            credentials = connection.getsockopt(
                socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")
            )
            _, uid, _ = struct.unpack("3i", credentials)
            if uid not in (0, self._operator_uid):
                connection.close()
                return
            connection.setblocking(False)
            request = _Connection(connection)
            self._selector.register(
                connection, selectors.EVENT_READ, lambda _: self._receive(request)
            )

    def _receive(self, connection: _Connection) -> None:
        try:
            data = connection.socket.recv(_CHUNK_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        connection.received += data
        whole = connection.received.endswith(b"\n")
        if data and not whole and len(connection.received) < _LONGEST_REQUEST_BYTES:
            return
        self._selector.unregister(connection.socket)
        if not whole:
            connection.socket.close()
            return
        try:
            request = json.loads(connection.received)
            self._handle(request, connection)
        except RequestRefusedError as error:
            connection.answer({"error": str(error)})
        except (ValueError, KeyError, TypeError, OSError) as error:
            connection.answer({"error": f"{type(error).__name__}: {error}"})

    def _handle(self, request: dict[str, Any], connection: _Connection) -> None:
        operation = request["op"]
        if operation == "start":
            self._start_on_request(self._child(request), connection)
        elif operation == "stop":
            child = self._child(request)
            self._stop(child, float(request["grace_seconds"]))
            self._waiting.append((lambda: None if child.pid else {"ok": True}, connection))
        elif operation == "signal":
            child = self._child(request)
            if child.pid is None:
                message = f"{child.wire['name']} does not run"
                raise RequestRefusedError(message)
            os.kill(child.pid, int(request["signal"]))
            connection.answer({"ok": True})
        elif operation == "status":
            now = time.monotonic()
            connection.answer(
                {"ok": True, "processes": [c.status(now) for c in self._children.values()]}
            )
        elif operation == "configure":
            self._configure(request["processes"])
            connection.answer({"ok": True})
        elif operation == "execute":
            self._execute(request, connection)
        elif operation == "socket":
            self._pass_socket(connection, request.get("kind", "tcp"))
        elif operation == "shutdown":
            self._leave(float(request["grace_seconds"]))
            connection.answer({"ok": True})
        else:
            message = f"unknown operation {operation!r}"
            raise RequestRefusedError(message)

    def _child(self, request: dict[str, Any]) -> Child:
        try:
            return self._children[request["process"]]
        except KeyError:
            message = f"this pod has no process {request.get('process')!r}"
            raise RequestRefusedError(message) from None

    # -- processes

    def _start_on_request(self, child: Child, connection: _Connection) -> None:
        if self._leaving or child.state == "stopping":
            message = f"{child.wire['name']} is being stopped"
            raise RequestRefusedError(message)
        if child.pid is None:
            child.asked = True
            self._start(child)

        def answer() -> dict[str, Any] | None:
            if child.state == "starting" or (child.refusal and child.pid is not None):
                return None
            return dict(child.refusal) if child.refusal else {"ok": True}

        self._waiting.append((answer, connection))

    def _start(self, child: Child) -> None:
        def told(failure: dict[str, str] | None) -> None:
            if failure is None:
                child.executed()
                return
            child.refused(failure)
            self._complain(child.wire, failure)

        try:
            child.started(self._spawn(child.wire, None, told), time.monotonic())
        except (OSError, SystemCallError) as error:
            child.started(-1, time.monotonic())
            told({"error": f"cannot start {child.wire['name']}: {error}", "remedy": ""})
            child.ended("not started", time.monotonic())

    def _complain(self, wire: ProcessWire, failure: dict[str, str]) -> None:
        self._log(wire).write(f"watertight: {failure['error']}\n".encode())

    def _spawn(self, wire: ProcessWire, connection: socket.socket | None, told: _Told) -> int:
        errors = self._collect(self._log(wire), wire)
        output = errors
        try:
            if connection is not None:
                output = connection.fileno()
            elif wire["access_log"]:
                output = self._collect(self._access_log(wire), wire)
            pid, status = spawn(
                wire,
                isolate=self._pod["isolate_processes"],
                root=self._directory / "root",
                stdin=connection.fileno() if connection else None,
                output=(output, errors),
            )
        finally:
            # Ours; the process has its own. If there is none, the reader sees the end at once.
            os.close(errors)
            if connection is None and output != errors:
                os.close(output)
        self._starting[pid] = (status, told)
        self._selector.register(status, selectors.EVENT_READ, lambda _: self._hear_of_exec(pid))
        return pid

    def _collect(self, log: RotatingLog | AccessLog, wire: ProcessWire) -> int:
        """The end of a pipe to write to; what comes out of it goes to ``log``."""
        reader, writer = os.pipe()
        if wire["credentials"] is not None:
            # Who opens /dev/stdout, as Envoy does, must be the owner of what is there.
            os.fchown(writer, *wire["credentials"])
        os.set_blocking(reader, False)
        self._selector.register(reader, selectors.EVENT_READ, lambda _: self._copy(reader, log))
        return writer

    def _hear_of_exec(self, pid: int) -> None:
        status, told = self._starting.pop(pid, (-1, lambda _: None))
        if status < 0:
            return
        failure = os.read(status, _CHUNK_BYTES)  # written at once, below PIPE_BUF
        self._selector.unregister(status)
        os.close(status)
        told(json.loads(failure) if failure else None)

    def _log(self, wire: ProcessWire) -> RotatingLog | AccessLog:
        return self._logs.setdefault(wire["log"], RotatingLog(Path(wire["log"])))

    def _access_log(self, wire: ProcessWire) -> RotatingLog | AccessLog:
        return self._logs.setdefault(wire["access_log"], AccessLog(Path(wire["access_log"])))

    def _copy(self, reader: int, log: RotatingLog | AccessLog) -> None:
        try:
            data = os.read(reader, _CHUNK_BYTES)
        except BlockingIOError:
            return
        if data:
            log.write(data)
            return
        self._selector.unregister(reader)
        os.close(reader)

    def _stop(self, child: Child, grace_seconds: float) -> None:
        if child.pid is None:
            child.stop_trying()
            return
        child.stopping(time.monotonic() + grace_seconds)
        self._kill(child.pid, child.wire["stop_signal"])

    def _kill(self, pid: int, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            if not self._pod["isolate_processes"]:
                # Without a process namespace the session is what can be ended as a whole.
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, number)
            os.kill(pid, number)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            self._guests.pop(pid, None)
            self._hear_of_exec(pid)  # what it said of its exec comes before its end
            for child in self._children.values():
                if child.pid == pid:
                    if not self._pod["isolate_processes"]:
                        self._kill(pid, signal.SIGKILL)  # what is left of its process group
                    child.ended(describe_exit(status), time.monotonic())

    def _do_what_is_due(self, now: float) -> None:
        for log in self._logs.values():
            log.settle(now)
        for child in self._children.values():
            if child.due is None or child.due > now:
                continue
            if child.state == "stopping" and child.pid is not None:
                child.due = None
                self._kill(child.pid, signal.SIGKILL)
            elif child.state == "backing-off" and not self._leaving:
                self._start(child)

    def _act_on_overuse(self) -> None:
        children = [(c.pid, c.wire) for c in self._children.values() if c.pid]
        for wire, line, pid in self._overuse.look(children, [*self._guests.items()]):
            self._log(wire).write(f"watertight: {line}\n".encode())
            if pid:
                self._kill(pid, signal.SIGKILL)

    def _patience(self) -> float | None:
        waiting = (*self._children.values(), *self._logs.values(), self._overuse)
        due = [each.due for each in waiting if each.due is not None]
        return max(0.0, min(due) - time.monotonic()) if due else None

    def _settle(self) -> None:
        """Gives the answers that have become known."""
        owed = []
        for answer, connection in self._waiting:
            body = answer()
            if body is None and not self._leaving:
                owed.append((answer, connection))
            else:
                connection.answer(body or {"error": "the pod is being shut down"})
        self._waiting = owed

    # -- the rest

    def _configure(self, processes: list[ProcessWire]) -> None:
        """Takes new definitions; a running process keeps its own until its next start."""
        for wire in processes:
            if wire["name"] in self._children:
                self._children[wire["name"]].wire = wire
            else:
                self._children[wire["name"]] = Child(wire)

    def _execute(self, request: dict[str, Any], connection: _Connection) -> None:
        wire = self._child(request).wire.copy()
        wire["argv"] = [str(word) for word in request["argv"]]
        wire["groups"] = [str(group) for group in request.get("groups", ())]
        wire["first"] = False
        wire["process_bytes"] = wire["process_most_bytes"] = wire["processes_bytes"] = None
        connection.socket.setblocking(True)
        connection.socket.sendall(b'{"ok": true}\n')

        def told(failure: dict[str, str] | None) -> None:
            if failure is not None:
                self._complain(wire, failure)

        self._guests[self._spawn(wire, connection.socket, told)] = wire
        connection.socket.close()

    def _pass_socket(self, connection: _Connection, kind: str) -> None:
        # Unbound with protocol 0, a packet socket hears nothing yet (packet(7)).
        tcp = (socket.AF_INET, socket.SOCK_STREAM)
        family, form = (socket.AF_PACKET, socket.SOCK_DGRAM) if kind == "packet" else tcp
        with socket.socket(family, form, 0) as made:
            socket.send_fds(connection.socket, [b'{"ok": true}\n'], [made.fileno()])
        connection.socket.close()

    def _leave(self, grace_seconds: float) -> None:
        """The proxy goes last: what an app still has to say while it ends goes through it."""
        self._leaving = True
        for pid in self._guests:
            self._kill(pid, signal.SIGKILL)
        for child in self._children.values():
            if child.wire["name"] != PROXY:
                self._stop(child, grace_seconds)

    def _let_the_proxy_go(self) -> None:
        proxy = self._children.get(PROXY)
        others = (child for name, child in self._children.items() if name != PROXY)
        if proxy is None or proxy.state in {"stopping", "stopped"}:
            return
        if all(child.pid is None for child in others):
            self._stop(proxy, _PROXY_GRACE_SECONDS)

    def _terminate(self) -> None:
        self._terminated = True

    def _hear_signals(self) -> None:
        """SIGTERM is a shutdown; SIGCHLD only wakes the loop."""
        reader, writer = os.pipe()
        for descriptor in (reader, writer):
            os.set_blocking(descriptor, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: self._terminate())
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self._selector.register(reader, selectors.EVENT_READ, _drain)


def _drain(reader: int) -> None:
    with contextlib.suppress(BlockingIOError):
        while os.read(reader, 4096):
            pass
