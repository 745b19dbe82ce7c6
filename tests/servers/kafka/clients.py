"""Services of the shop as they speak to its broker, with their own certificates."""

import socket
import ssl
import struct
from types import TracebackType
from typing import Self

from tests.rig import Rig
from watertight.servers.kafka.attacks.dialect import verdict
from watertight.servers.kafka.attacks.requests import Request, num, of_partition, text

TIMEOUT_SECONDS = 20.0


class Connected:
    """One connection; each request waits for its answer."""

    def __init__(self, rig: Rig, service: str) -> None:
        credentials = rig.host.placement.credentials(service)
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
