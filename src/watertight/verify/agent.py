"""The probe agent: what a compromised app would do, run inside its sandbox with its rights.

It is handed to ``python -I -c`` as text, since a sandbox need not see our package, so it imports
the standard library only. It reads one JSON request a line from stdin and writes one JSON answer
a line to stdout, in any order: ``{"id", "operation", "arguments"}`` → ``{"id", "answer"}``.
Bytes travel as base64. The operations are those of ``enforcers.contract.Inside.call``; it ends
when stdin does.
"""

import asyncio
import base64
import contextlib
import json
import os
import socket
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

MAX_BYTES = 1_048_576
DEFAULT_TIMEOUT_SECONDS = 5.0
WORKERS = 64

_streams: dict[int, socket.socket] = {}


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


async def _connected(arguments: dict[str, Any]) -> socket.socket:
    """A raw socket: asyncio's streams drop what came before a reset."""
    sock = socket.socket(socket.AF_INET)
    try:
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        address = await asyncio.to_thread(_address, arguments["host"], int(arguments["port"]))
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
    sock = await _connected(arguments)
    _streams[sock.fileno()] = sock
    return {"stream": sock.fileno()}


async def _send(arguments: dict[str, Any]) -> dict[str, Any]:
    sock = _streams[int(arguments["stream"])]
    with contextlib.suppress(ConnectionError):  # the next receive says what became of it
        await asyncio.get_running_loop().sock_sendall(sock, base64.b64decode(arguments["data"]))
    return {}


async def _receive(arguments: dict[str, Any]) -> dict[str, Any]:
    got = await _read(_streams[int(arguments["stream"])], _timeout(arguments))
    return {**got, "data": _b64(got["data"])}


async def _close(arguments: dict[str, Any]) -> dict[str, Any]:
    if sock := _streams.pop(int(arguments["stream"]), None):
        # Somebody may still wait for its bytes: the loop must forget a descriptor before the next
        # socket gets its number, or waiting for that one fails (ENOENT of epoll_ctl(2)).
        loop = asyncio.get_running_loop()
        loop.remove_reader(sock)
        loop.remove_writer(sock)
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


BLOCKING = {
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
