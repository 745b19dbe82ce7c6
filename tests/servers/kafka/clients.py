"""Services of the shop as they speak to its broker, with their own certificates."""

import asyncio
import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from tests.rig import Rig
from watertight.servers.kafka.attacks import siblings
from watertight.servers.kafka.attacks.dialect import verdict
from watertight.servers.kafka.attacks.requests import Request, num, of_partition, text

TIMEOUT_SECONDS = 20.0


class Connected:
    """One connection; each request waits for its answer."""

    def __init__(self, rig: Rig, service: str) -> None:
        credentials = rig.host.placement.credentials(service).resolve()
        context = ssl.create_default_context(cafile=str(credentials / "bundle.pem"))
        context.load_cert_chain(credentials / "certificate.pem", credentials / "private_key.pem")
        plain = socket.create_connection(("127.0.0.1", rig.host.port), timeout=TIMEOUT_SECONDS)
        self._tls = context.wrap_socket(plain, server_hostname=rig.resource)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._tls.close()

    def answer(self, request: Request) -> bytes:
        """The body. Raises EOFError if the broker hangs up."""
        self._tls.sendall(request.encoded(1))
        size: int = struct.unpack(">i", self._exactly(4))[0]
        return self._exactly(size)[4:]

    def ask(self, request: Request) -> int:
        """The first error code."""
        return verdict(request, self.answer(request))

    def publish(self, topic: str, value: bytes) -> int:
        """One message; the error code."""
        batch = batch_of(value)
        records = of_partition(topic, num("ii", 0, len(batch)) + batch)
        return self.ask(Request(0, 3, "asai*", text(None) + num("hi", -1, 5000) + records))

    def fetch(self, topic: str) -> bytes:
        """All that is in the first partition, as it lies there."""
        limits = num("iiiib", -1, 500, 1, 1 << 20, 0)
        wanted = limits + of_partition(topic, num("iqi", 0, 0, 1 << 20))
        return self.answer(Request(1, 4, "iasai*", wanted))

    def commit(self, group: str, topic: str, offset: int) -> int:
        """Moves a group that nobody is in."""
        place = of_partition(topic, num("iq", 0, offset) + text(""))
        head = text(group) + num("i", -1) + text("") + num("q", -1)
        return self.ask(Request(8, 2, "asai*", head + place))

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = self._tls.recv(size - len(data))
            if not more:
                raise EOFError
            data += more
        return data


class Load:
    """Publishes and reads in one session that stays, and in a new one each time."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work)
        self.done = 0
        self.failures: list[str] = []

    def start(self) -> None:
        """In a thread of its own."""
        self._thread.start()

    def end(self) -> None:
        """Returns once it has ended."""
        self._ended.set()
        self._thread.join()

    async def more(self) -> None:
        """Returns once more was done, from beginning to end."""
        enough = self.done + 2
        async with asyncio.timeout(60):
            while self.done < enough and not self.failures:  # noqa: ASYNC110  it is a thread
                await asyncio.sleep(0.01)

    def _work(self) -> None:
        with Connected(self._rig, "orders") as lasting:
            while not self._ended.is_set() and not self.failures:
                try:
                    with Connected(self._rig, "orders") as new:
                        codes = {one.publish("orders.placed", b"one") for one in (lasting, new)}
                    with Connected(self._rig, "billing") as reader:
                        reader.fetch("orders.placed")
                except (OSError, EOFError) as error:
                    self.failures.append(repr(error))
                else:
                    self.failures += [str(code) for code in codes if code]
                    self.done += 1


@contextmanager
def working(rig: Rig) -> Iterator[Load]:
    """Load until the block ends."""
    load = Load(rig)
    load.start()
    try:
        yield load
    finally:
        load.end()


def serials(rig: Rig) -> frozenset[str]:
    """Of the certificates that the listeners serve, each verified with the present roots."""
    credentials = rig.host.placement.credentials(rig.resource).resolve()
    context = ssl.create_default_context(cafile=str(credentials / "bundle.pem"))
    found = set()
    for port in (rig.host.port, *siblings.ports(rig.host.port)):
        plain = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_SECONDS)
        with context.wrap_socket(plain, server_hostname=rig.resource) as tls:
            found.add(str((tls.getpeercert() or {})["serialNumber"]))
    return frozenset(found)


def batch_of(value: bytes) -> bytes:
    """A batch of one record without a key (KIP-98); short, so that each varint is one byte."""
    record = bytes([0, 0, 0, 1, 2 * len(value)]) + value + b"\x00"
    record = bytes([2 * len(record)]) + record
    after = num("hiqqqhii", 0, 0, 1, 1, -1, -1, -1, 1) + record
    body = num("ibI", -1, 2, crc32c(after)) + after
    return num("qi", 0, len(body)) + body


def crc32c(data: bytes) -> int:
    """Castagnoli's (RFC 3720, appendix B.4)."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF
