"""Services of the shop as they speak to its broker, with their own certificates."""

import socket
import ssl
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import aio_pika
from aio_pika.abc import AbstractConnection

from tests.rig import Rig
from watertight.servers.rabbitmq.attacks import frames

CONFIRM_SELECT, ACK = (85, 10), (60, 80)


def identity(rig: Rig, service: str) -> ssl.SSLContext:
    """TLS as ``service`` speaks it."""
    credentials = rig.host.placement.credentials(service).resolve()
    context = ssl.create_default_context(cafile=str(credentials / "bundle.pem"))
    context.load_cert_chain(credentials / "certificate.pem", credentials / "private_key.pem")
    context.check_hostname = False  # the name is the resource's, the address is not
    return context


def sends_and_dies(rig: Rig, service: str, exchange: str, key: str, bodies: list[bytes]) -> None:
    """Publishes without heartbeats, waits until all is confirmed, and ends with a FIN, no word of
    AMQP's or TLS's.

    What is not confirmed may be lost then: the broker ends a channel before it has done what waits
    there (gen_server2 takes the end of a parent first).
    """
    names = b"\x00\x00" + frames.short(exchange) + frames.short(key) + b"\x00"
    with socket.create_connection(("127.0.0.1", rig.host.port), timeout=20) as plain:
        tls = identity(rig, service).wrap_socket(plain)
        tls.sendall(frames.HEADER)
        tls.recv(1 << 16)
        answer = frames.client_properties() + frames.short("EXTERNAL") + frames.long(b"")
        tls.sendall(frames.method(0, frames.START_OK, answer + frames.short("en_US")))
        tls.recv(1 << 16)
        host = frames.short(rig.resource) + frames.short("") + b"\x00"
        said = frames.method(0, frames.TUNE_OK, struct.pack(">HIH", 16, 131_072, 0))
        said += frames.method(0, frames.OPEN, host)
        said += frames.method(1, frames.CHANNEL_OPEN, frames.short(""))
        said += frames.method(1, CONFIRM_SELECT, b"\x00")
        for body in bodies:
            said += frames.method(1, (60, 40), names)
            said += frames.frame(frames.CONTENT, 1, struct.pack(">HHQH", 60, 0, len(body), 0))
            said += frames.frame(frames.BODY, 1, body)
        tls.sendall(said)
        heard = b""
        while _confirmed(heard) < len(bodies):
            heard += tls.recv(1 << 16)
        tls.shutdown(socket.SHUT_WR)
        while tls.recv(
            1 << 16
        ):  # or closing would reset the connection, and take back what it sent
            pass


def _confirmed(heard: bytes) -> int:
    """The highest number in an answer to a publisher (basic.ack). They come in order."""
    start = struct.pack(">BHIHH", frames.METHOD, 1, 13, *ACK)
    at = heard.rfind(start)
    number = heard[at + len(start) :][:8] if at >= 0 else b""
    return int(struct.unpack(">Q", number)[0]) if len(number) == 8 else 0


@asynccontextmanager
async def connected(rig: Rig, service: str) -> AsyncIterator[AbstractConnection]:
    """A connection of ``service``, with its own certificate."""
    context = identity(rig, service)
    connection = await aio_pika.connect(
        host="127.0.0.1",
        port=rig.host.port,
        virtualhost=rig.resource,
        ssl=True,
        ssl_context=context,
        login="",
        password="",
        auth="EXTERNAL",
    )
    try:
        yield connection
    finally:
        with suppress(Exception):
            await connection.close()
