"""Clients that take a server's memory, each in a way of its own; as fast as they can, and bounded.

They speak the protocol themselves: a client of everyday use is too slow, and too well behaved.
"""

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from math import inf

from tests.rig import Rig
from watertight.servers.nats.watch import MESSAGE_BYTES

HELLO = b'CONNECT {"verbose":false,"headers":true,"no_responders":true,"protocol":1}\r\nPING\r\n'
Message = Callable[[int], bytes]
"""The n-th operation that a flood sends."""
AT_ONCE = 1000
WAIT_SECONDS = 60
PAUSE_SECONDS = 0.05
LONGEST_SECONDS = 240
"""A flood ends by itself then."""
PACED = 12 << 20
"""Bytes of memory a second, at most, where a guard looks on that shares this process with the
flood, on a machine that does other things: at full speed it has less than a second."""


def subjects(number: int) -> bytes:
    """A subject of 900 characters that nobody has named before, kept by a stream."""
    start = f"{number * 2654435761 % (1 << 32):08x}.{number:x}."
    return f"PUB orders.{start.ljust(890, 'x')} 1\r\nx\r\n".encode()


def fetches(number: int) -> bytes:
    """A request for messages that are not there; each may be answered for five minutes."""
    inbox = f"_INBOX.alice.{number:0100d}"
    return f"PUB $JS.API.CONSUMER.MSG.NEXT.ORDERS.alice {inbox} 2\r\n{{}}\r\n".encode()


def requests(number: int) -> bytes:
    """A request that a service hears, and does not answer."""
    return f"PUB ask.x _INBOX.alice.{number:0500d} 1\r\nx\r\n".encode()


def ids(number: int) -> bytes:
    """A message with a long id, which is remembered for two minutes."""
    head = f"NATS/1.0\r\nNats-Msg-Id: {number:060000d}\r\n\r\n"
    return f"HPUB orders.same {len(head)} {len(head)}\r\n{head}\r\n".encode()


def bulk(number: int) -> bytes:
    """A message of 8 kB into a stream, which nobody acknowledges."""
    return f"PUB named.two 8000\r\n{number:08000d}\r\n".encode()


@contextlib.contextmanager
def session(rig: Rig, service: str) -> Iterator[ssl.SSLSocket]:
    """A session of a service, logged in."""
    credentials = rig.host.placement.credentials(service).resolve()
    context = ssl.create_default_context(cafile=str(credentials / "bundle.pem"))
    context.load_cert_chain(credentials / "certificate.pem", credentials / "private_key.pem")
    with (
        socket.create_connection(("127.0.0.1", rig.host.port), WAIT_SECONDS) as plain,
        context.wrap_socket(plain, server_hostname=rig.resource) as wire,
    ):
        wire.sendall(HELLO)
        ponged(wire)
        yield wire


def ponged(wire: ssl.SSLSocket) -> None:
    """Until the server has done what was asked. Raises OSError where it ended the session."""
    said = b""
    while b"PONG\r\n" not in said:
        more = wire.recv(1 << 16)
        if not more:
            raise ConnectionAbortedError(said[-200:].decode(errors="replace"))
        said = said[-8:] + more


def hear(rig: Rig, stop: threading.Event) -> None:
    """Takes all that bob hears, and answers nothing."""
    with session(rig, "bob") as wire:
        wire.sendall(b"SUB ask.x 1\r\n")
        wire.settimeout(0.1)
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                if not wire.recv(1 << 20):
                    raise ConnectionAbortedError("bob was shown out")


def flood(
    rig: Rig,
    message: Message,
    most: int,
    stop: threading.Event | None = None,
    *,
    bytes_per_second: float = inf,
) -> int:
    """Sends up to so many, in a new session whenever one is ended; how many went out."""
    sent, end, stop = 0, time.monotonic() + LONGEST_SECONDS, stop or threading.Event()
    at_once = max(1, min(AT_ONCE, (1 << 20) // len(message(0))))
    pause = at_once * (MESSAGE_BYTES + len(message(0))) / bytes_per_second
    while sent < most and time.monotonic() < end and not stop.is_set():
        with contextlib.suppress(OSError), session(rig, "alice") as wire:
            wire.sendall(b"SUB _INBOX.alice.> 1\r\n")
            while sent < most and time.monotonic() < end and not stop.is_set():
                wire.sendall(b"".join(message(sent + n) for n in range(at_once)) + b"PING\r\n")
                sent += at_once
                ponged(wire)
                stop.wait(pause)
    return sent


def trickle(rig: Rig, service: str, message: Message, rate: int, stop: threading.Event) -> int:
    """Sends so many a second, in one session; how many went out. Raises OSError where the server
    ends it."""
    sent, start = 0, time.monotonic()
    with session(rig, service) as wire:
        while not stop.is_set() and time.monotonic() < start + LONGEST_SECONDS:
            due = int((time.monotonic() - start) * rate)
            wire.sendall(b"".join(map(message, range(sent, due))) + b"PING\r\n")
            ponged(wire)
            sent = max(sent, due)
            time.sleep(PAUSE_SECONDS)
    return sent
