"""An open-loop load: requests are sent when they are due, whether or not answers have come.

A closed loop (wrk) waits for a slow answer before it asks again, and so never measures what those
who would have come meanwhile had to wait ("coordinated omission"). Here a latency runs from the
moment at which its request was due, also if no connection was free then.
"""

import gc
import re
import select
import socket
import time
from collections import deque
from dataclasses import dataclass, field

from bench.load import PATH

CONNECTIONS = 32
LATE_SECONDS = 5.0
"""How long the last answers are waited for."""
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)


@dataclass(frozen=True)
class Latencies:
    """What one run saw, in milliseconds; ``errors`` counts what was not a whole 200 in time."""

    sent: int
    errors: int
    p50_ms: float
    p99_ms: float


@dataclass
class _Connection:
    socket: socket.socket
    due: float = 0.0
    answer: bytearray = field(default_factory=bytearray)


def run(address: str, *, seconds: float, per_second: int, body_bytes: int = 0) -> Latencies:
    """Asks ``address`` (host:port) ``per_second`` times a second, evenly, on 32 connections.

    With ``body_bytes`` each request is a POST of so many. Raises OSError if it cannot connect.
    """
    loop = _Loop(address, _request(address, body_bytes))
    collecting = gc.isenabled()
    gc.disable()  # its pauses would be our latencies
    try:
        loop.run(round(seconds * per_second), 1 / per_second)
    finally:
        loop.close()
        if collecting:
            gc.enable()
    waited = sorted(loop.waited)
    return Latencies(
        sent=loop.sent,
        errors=loop.sent - len(waited),
        p50_ms=_quantile(waited, 0.5) * 1000,
        p99_ms=_quantile(waited, 0.99) * 1000,
    )


def _request(address: str, body_bytes: int) -> bytes:
    body = b"x" * body_bytes
    method, length = ("POST", f"Content-Length: {body_bytes}\r\n") if body else ("GET", "")
    return f"{method} {PATH} HTTP/1.1\r\nHost: {address}\r\n{length}\r\n".encode() + body


def _quantile(ordered: list[float], share: float) -> float:
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)] if ordered else float("nan")


class _Loop:
    """select(2), for its timeout has microseconds; that of epoll(7) in asyncio has milliseconds."""

    def __init__(self, address: str, request: bytes) -> None:
        host, _, port = address.rpartition(":")
        self._address = (host, int(port))
        self._request = request
        self._free = [self._connected() for _ in range(CONNECTIONS)]
        self._busy: dict[socket.socket, _Connection] = {}
        self._waiting = deque[float]()
        self.sent = 0
        self.waited: list[float] = []

    def _connected(self) -> _Connection:
        client = socket.create_connection(self._address, timeout=LATE_SECONDS)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return _Connection(client)

    def close(self) -> None:
        """Closes every connection."""
        for connection in (*self._free, *self._busy.values()):
            connection.socket.close()

    def run(self, count: int, apart_seconds: float) -> None:
        """Sends ``count`` requests, and waits for the last answers."""
        start = time.perf_counter()
        end = start + count * apart_seconds + LATE_SECONDS
        while self.sent < count or self._busy or self._waiting:
            now = time.perf_counter()
            if now > end:
                return
            while self.sent < count and (due := start + self.sent * apart_seconds) <= now:
                self._waiting.append(due)
                self.sent += 1
            while self._waiting and self._free:
                self._ask(self._free.pop(), self._waiting.popleft())
            due = start + self.sent * apart_seconds if self.sent < count else end
            pause = max(due - time.perf_counter(), 0)
            for ready in select.select(list(self._busy), (), (), pause)[0]:
                self._read(self._busy[ready])

    def _ask(self, connection: _Connection, due: float) -> None:
        connection.due = due
        self._busy[connection.socket] = connection
        try:
            connection.socket.sendall(self._request)
        except OSError:
            self._replace(connection)

    def _read(self, connection: _Connection) -> None:
        try:
            data = connection.socket.recv(65_536)
        except OSError:
            data = b""
        if not data:
            self._replace(connection)
            return
        answer = connection.answer
        answer += data
        head = answer.find(b"\r\n\r\n")
        length = _LENGTH.search(answer) if head >= 0 else None
        if length is None or len(answer) < head + 4 + int(length[1]):
            return
        if answer.startswith(b"HTTP/1.1 200"):
            self.waited.append(time.perf_counter() - connection.due)
        answer.clear()
        del self._busy[connection.socket]
        self._free.append(connection)

    def _replace(self, connection: _Connection) -> None:
        """One that was closed under a request: an error, and a new connection."""
        del self._busy[connection.socket]
        connection.socket.close()
        self._free.append(self._connected())
