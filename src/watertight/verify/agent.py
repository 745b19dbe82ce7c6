"""The probe agent: what a compromised app would do, run inside its sandbox with its rights.

It is handed to ``python -I -c`` as text, since a sandbox need not see our package, so it imports
the standard library only. It reads one JSON request a line from stdin and writes one JSON answer
a line to stdout, in any order: ``{"id", "operation", "arguments"}`` → ``{"id", "answer"}``.
Bytes travel as base64. The operations are those of ``attack.arena.Inside.call``; it ends
when stdin does.
"""

import asyncio
import base64
import contextlib
import ctypes
import itertools
import json
import mmap
import os
import re
import resource
import socket
import struct
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

MAX_BYTES = 1_048_576
DEFAULT_TIMEOUT_SECONDS = 5.0
WORKERS = 64
BALLOON_STEP_BYTES = 16 << 20
FILL_STEP_BYTES = 1 << 20
QUESTIONS = 1_000
"""On one netlink socket, each with an answer of one or two kilobytes."""
RTM_GETLINK, NLM_F_REQUEST = 18, 1
IPC_NEW, IPC_REMOVE = 0o3600, 0
"""IPC_CREAT, IPC_EXCL and the mode; IPC_RMID (sys/ipc.h)."""
STRUCTURE = -1
"""In the arguments of a system call: the address of zeros."""

_streams: dict[int, socket.socket] = {}
"""By numbers that are never given again: who closes his own twice must not close another's."""
_numbers = itertools.count(1)
_held: list[socket.socket] = []
_reading: dict[int, set["asyncio.Future[dict[str, Any]]"]] = {}


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


async def _connected(arguments: dict[str, Any]) -> socket.socket:
    """A raw socket: asyncio's streams drop what came before a reset."""
    path = arguments.get("path")
    sock = socket.socket(socket.AF_UNIX if path else socket.AF_INET)
    try:
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        address: tuple[str, int] | str = str(path)
        if not path:
            there = str(arguments["host"]), int(arguments["port"])
            address = await asyncio.to_thread(_address, *there)
        async with asyncio.timeout(_timeout(arguments)):
            await loop.sock_connect(sock, address)
    except BaseException:
        sock.close()
        raise
    return sock


def _address(host: str, port: int) -> tuple[str, int]:
    found = socket.getaddrinfo(host, port, socket.AF_INET, socket.SOCK_STREAM)
    return str(found[0][4][0]), port


def _timeout(arguments: dict[str, Any]) -> float:
    return float(arguments.get("timeout_seconds", DEFAULT_TIMEOUT_SECONDS))


async def _connect_all(arguments: dict[str, Any]) -> dict[str, Any]:
    """Which of these (name → host and port) take a connection, and why the others do not."""
    taken, reasons = [], set()
    gate = asyncio.Semaphore(WORKERS)

    async def attempt(name: str, host: str, port: int) -> None:
        try:
            async with gate:
                (await _connected({**arguments, "host": host, "port": port})).close()
        except TimeoutError:
            reasons.add("no answer")
        except OSError as error:
            reasons.add(os.strerror(error.errno) if error.errno else str(error))
        else:
            taken.append(name)

    await asyncio.gather(*(attempt(n, *at) for n, at in arguments["addresses"].items()))
    return {"taken": sorted(taken), "reasons": sorted(reasons)}


async def _read(sock: socket.socket, timeout_seconds: float) -> dict[str, Any]:
    try:
        async with asyncio.timeout(timeout_seconds):
            data = await asyncio.get_running_loop().sock_recv(sock, 65_536)
    except TimeoutError:
        return {"data": b"", "closed": False}
    except ConnectionError:
        return {"data": b"", "closed": True, "reset": True}
    return {"data": data, "closed": not data}


async def _raw(arguments: dict[str, Any]) -> dict[str, Any]:
    """Sends once, then reads until the peer closes, falls silent, or time is up."""
    loop = asyncio.get_running_loop()
    idle = float(arguments.get("idle_seconds", _timeout(arguments)))
    received, closed = b"", False
    with await _connected(arguments) as sock, contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_timeout(arguments)):
            with contextlib.suppress(ConnectionError):  # the peer may still have answered
                await loop.sock_sendall(sock, base64.b64decode(arguments.get("data", "")))
            while len(received) < MAX_BYTES:
                got = await _read(sock, idle)
                received += got["data"]
                closed = got["closed"]
                if not got["data"]:
                    break
    return {"data": _b64(received), "closed": closed}


async def _open(arguments: dict[str, Any]) -> dict[str, Any]:
    number = next(_numbers)
    _streams[number] = await _connected(arguments)
    return {"stream": number}


async def _send(arguments: dict[str, Any]) -> dict[str, Any]:
    sock = _streams[int(arguments["stream"])]
    with contextlib.suppress(ConnectionError):  # the next receive says what became of it
        await asyncio.get_running_loop().sock_sendall(sock, base64.b64decode(arguments["data"]))
    return {}


async def _receive(arguments: dict[str, Any]) -> dict[str, Any]:
    got = await _next(int(arguments["stream"]), _timeout(arguments))
    return {**got, "data": _b64(got["data"])}


async def _next(stream: int, timeout_seconds: float) -> dict[str, Any]:
    reading = asyncio.ensure_future(_read(_streams[stream], timeout_seconds))
    _reading.setdefault(stream, set()).add(reading)
    try:
        return await reading
    except asyncio.CancelledError:  # by _close
        return {"data": b"", "closed": True}
    finally:
        _reading.get(stream, set()).discard(reading)


async def _ask(arguments: dict[str, Any]) -> dict[str, Any]:
    """Sends, and receives until an answer in HTTP/1.1 seems to be whole: one request, not three."""
    stream, deadline = int(arguments["stream"]), time.monotonic() + _timeout(arguments)
    await _send(arguments)
    received = b""
    while True:
        got = await _next(stream, max(0.0, deadline - time.monotonic()))
        received += got["data"]
        if not got["data"] or _seems_whole(received) or len(received) > MAX_BYTES:
            return {**got, "data": _b64(received)}


def _seems_whole(answer: bytes) -> bool:
    """Whoever asked reads it with care, and receives what is missing: all that has no length."""
    head, end, body = answer.partition(b"\r\n\r\n")
    length = re.search(rb"\r\ncontent-length: *(\d+)", head, re.IGNORECASE)
    return bool(end) and (length is None or len(body) >= int(length[1]))


async def _finish(arguments: dict[str, Any]) -> dict[str, Any]:
    """Says that no more comes, and goes on reading."""
    with contextlib.suppress(OSError):
        _streams[int(arguments["stream"])].shutdown(socket.SHUT_WR)
    return {}


async def _close(arguments: dict[str, Any]) -> dict[str, Any]:
    """Whoever still reads must be gone first: the next connection may get the same descriptor."""
    stream = int(arguments["stream"])
    sock = _streams.pop(stream, None)
    reading = _reading.pop(stream, set())
    for task in reading:
        task.cancel()
    await asyncio.gather(*reading, return_exceptions=True)
    if sock is not None:
        sock.close()
    return {}


def _resolve(arguments: dict[str, Any]) -> dict[str, Any]:
    try:
        found = socket.getaddrinfo(arguments["name"], None, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        return {"addresses": [], "reason": str(error)}
    return {"addresses": sorted({str(entry[4][0]) for entry in found})}


def _resolve_all(arguments: dict[str, Any]) -> dict[str, Any]:
    return {"addresses": {n: _resolve({"name": n})["addresses"] for n in arguments["names"]}}


def _list(arguments: dict[str, Any]) -> dict[str, Any]:
    """Which of these directories open: to know that one is there is no breach yet."""
    listed = []
    for name in arguments["names"]:
        with contextlib.suppress(OSError):
            next(Path(name).iterdir(), None)
            listed.append(name)
    return {"listed": listed}


def _unix(arguments: dict[str, Any]) -> dict[str, Any]:
    """Which of these sockets take a connection, and for what reasons the others do not."""
    connected, reasons = [], set()
    for path in arguments["paths"]:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(_timeout(arguments))
            try:
                sock.connect(path)
            except OSError as error:
                reasons.add(error.strerror or str(error))
            else:
                connected.append(path)
    return {"connected": connected, "reasons": sorted(reasons)}


def _interfaces(_arguments: dict[str, Any]) -> dict[str, Any]:
    return {"names": [name for _index, name in socket.if_nameindex()]}


def _memory(_arguments: dict[str, Any]) -> dict[str, Any]:
    """The proxies (by the name of their program) that are in sight, and whose memory opens."""
    seen, readable = [], []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            if entry.joinpath("comm").read_text().strip() != "envoy":
                continue
            seen.append(int(entry.name))
            with entry.joinpath("mem").open("rb"):
                readable.append(int(entry.name))
    return {"seen": seen, "readable": readable}


def _knock(arguments: dict[str, Any]) -> dict[str, Any]:
    """Connects to a Unix socket and closes, so many times; how many were taken."""
    taken = 0
    for _ in range(int(arguments["count"])):
        with socket.socket(socket.AF_UNIX) as sock, contextlib.suppress(OSError):
            sock.setblocking(False)
            sock.connect(arguments["path"])
            taken += 1
    return {"taken": taken}


def _threads(arguments: dict[str, Any]) -> dict[str, Any]:
    """How many threads can be started, up to so many; the kernel counts them as processes."""
    done, started = threading.Event(), []
    usual = threading.stack_size(65_536)
    try:
        with contextlib.suppress(RuntimeError):
            for _ in range(int(arguments["most"])):
                thread = threading.Thread(target=done.wait)
                thread.start()
                started.append(thread)
    finally:
        threading.stack_size(usual)
        done.set()
        for thread in started:
            thread.join()
    return {"got": len(started)}


def _balloon(arguments: dict[str, Any]) -> dict[str, Any]:
    """How much memory a child can fill, up to so much; and how it ended."""
    reader, writer = os.pipe()
    if not (pid := os.fork()):
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text("1000")  # it, and not who asks
        held, flags = [], mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE
        with contextlib.suppress(OSError, MemoryError):
            for _ in range(0, int(arguments["most"]), BALLOON_STEP_BYTES):
                held.append(mmap.mmap(-1, BALLOON_STEP_BYTES, flags=flags))
                os.write(writer, b"+")
        os._exit(0)
    os.close(writer)
    steps = 0
    while chunk := os.read(reader, 65_536):
        steps += len(chunk)
    os.close(reader)
    ended = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return {"got": steps * BALLOON_STEP_BYTES, "ended": ended}


def _fill(arguments: dict[str, Any]) -> dict[str, Any]:
    """How much space files in all of these directories together can have, up to so much."""
    got, fillers = 0, []
    try:
        for number, place in enumerate(arguments["places"]):
            filler = Path(place) / f"filler-{os.getpid()}-{number}"
            with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
                fillers.append(filler)
                for start in range(0, int(arguments["most"]) - got, FILL_STEP_BYTES):
                    os.posix_fallocate(file.fileno(), start, FILL_STEP_BYTES)
                    got += FILL_STEP_BYTES
    finally:
        for filler in fillers:
            filler.unlink()
    return {"got": got}


def _descriptors(arguments: dict[str, Any]) -> dict[str, Any]:
    """How many files can be open at once, up to so many, whatever limits may be raised before."""
    most = int(arguments["most"])
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most + 64, most + 64))
    held: list[int] = []
    try:
        with contextlib.suppress(OSError):
            held.extend(os.open(os.devnull, os.O_RDONLY) for _ in range(most))
    finally:
        for descriptor in held:
            os.close(descriptor)
    return {"got": len(held)}


def _unread(arguments: dict[str, Any]) -> dict[str, Any]:
    """Asks the kernel about ``lo`` on many netlink sockets, and reads no answer (rtnetlink(7)).

    Up to so many bytes of what it then holds, for as long as this agent runs.
    """
    most, got = int(arguments["most"]), 0
    question = struct.pack("=IHHII", 32, RTM_GETLINK, NLM_F_REQUEST, 1, 0)
    question += struct.pack("=BxHiII", 0, 0, 1, 0, 0)
    with contextlib.suppress(OSError):
        while got < most:
            one = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
            _held.append(one)
            one.setblocking(False)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
            for _ in range(QUESTIONS):
                one.send(question)
            got = int(_netlink({})["unread"])
    return {"got": got}


def _netlink(_arguments: dict[str, Any]) -> dict[str, Any]:
    """What the netlink sockets of this network namespace hold, in bytes."""
    rows = Path("/proc/self/net/netlink").read_text().splitlines()
    column = rows[0].split().index("Rmem")
    return {"unread": sum(int(row.split()[column]) for row in rows[1:])}


def _kernel(arguments: dict[str, Any]) -> dict[str, Any]:
    """Which of these system calls the kernel takes up, each tried in a child of its own.

    ``calls``: name → number and arguments. Refused is what ends with one of ``refusals``.
    """
    taken, refused = [], {}
    for name, (number, *words) in arguments["calls"].items():
        error = _tried(number, words)
        if error in arguments["refusals"]:
            refused[name] = os.strerror(error)
        else:
            taken.append(name)
    return {"taken": taken, "refused": refused}


def _tried(number: int, words: list[int]) -> int:
    """The errno of one system call, 0 if it succeeds. Zeros stand where it wants a structure."""
    reader, writer = os.pipe()
    if not (pid := os.fork()):
        libc = ctypes.CDLL(None, use_errno=True)
        libc.syscall.restype = ctypes.c_long
        zeros = ctypes.create_string_buffer(256)
        plain = [zeros if word == STRUCTURE else ctypes.c_ulong(word) for word in words]
        failed = libc.syscall(ctypes.c_long(number), *plain) < 0
        os.write(writer, b"%d\n" % (ctypes.get_errno() if failed else 0))
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as said:
        error = said.readline()  # a child that clone(2) made says the same once more
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, 0)
    return int(error or 0)


def _kept(arguments: dict[str, Any]) -> dict[str, Any]:
    """What outlives its maker: made by that key, or else looked for and removed (sysvipc(7)).

    ``key``, ``make``. Which objects there are then, or were.
    """
    key, make = int(arguments["key"]), bool(arguments["make"])
    new, name = IPC_NEW if make else 0, f"/wt{key}".encode()
    libc = ctypes.CDLL(None, use_errno=True)
    found = {
        "shared memory": libc.shmget(key, ctypes.c_size_t(4096 * make), new),
        "semaphores": libc.semget(key, int(make), new),
        "a message queue": libc.msgget(key, new),
    }
    with contextlib.suppress(AttributeError):  # an old C library has it elsewhere
        opened = os.O_RDWR | (os.O_CREAT | os.O_EXCL) * make
        found["a POSIX message queue"] = libc.mq_open(name, opened, 0o600, None)
    there = [what for what, identifier in found.items() if identifier >= 0]
    if not make:
        libc.shmctl(found["shared memory"], IPC_REMOVE, None)
        libc.semctl(found["semaphores"], 0, IPC_REMOVE)
        libc.msgctl(found["a message queue"], IPC_REMOVE, None)
        if "a POSIX message queue" in there:
            libc.mq_unlink(name)
    return {"there": there}


BLOCKING = {
    "knock": _knock,
    "threads": _threads,
    "balloon": _balloon,
    "fill": _fill,
    "descriptors": _descriptors,
    "unread": _unread,
    "netlink": _netlink,
    "kernel": _kernel,
    "kept": _kept,
    "resolve": _resolve,
    "resolve_all": _resolve_all,
    "list": _list,
    "unix": _unix,
    "interfaces": _interfaces,
    "memory": _memory,
}
ASYNC = {
    "raw": _raw,
    "connect_all": _connect_all,
    "open": _open,
    "send": _send,
    "receive": _receive,
    "ask": _ask,
    "finish": _finish,
    "close": _close,
}

_writing = threading.Lock()


async def _answer(request: dict[str, Any]) -> None:
    operation, arguments = request["operation"], request.get("arguments", {})
    try:
        if operation in BLOCKING:
            answer = await asyncio.to_thread(BLOCKING[operation], arguments)
        else:
            answer = await ASYNC[operation](arguments)
    except Exception as error:  # noqa: BLE001 - each failure is an answer: the prober judges it
        kind = type(error).__name__
        answer = {"error": f"{kind}: {error}".removesuffix(": "), "kind": kind}
    line = json.dumps({"id": request["id"], "answer": answer})
    with _writing:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


def main() -> None:
    """Serves requests until stdin ends."""
    loop = asyncio.new_event_loop()
    loop.set_default_executor(ThreadPoolExecutor(WORKERS))
    threading.Thread(target=loop.run_forever, daemon=True).start()
    # Blocking reads in this thread: stdin and stdout may be one socket, whose flags we leave be.
    for line in sys.stdin:
        asyncio.run_coroutine_threadsafe(_answer(json.loads(line)), loop)
    os._exit(0)


if __name__ == "__main__":
    main()
