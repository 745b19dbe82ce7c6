"""Every data path, running; and clients that read what comes, to its end, as real ones do."""

import asyncio
import re
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from tests.dataplane.wholeness import apps
from tests.mesh import Mesh, running_mesh
from tests.ports import free_port
from watertight.model.system import (
    Channel,
    Gateway,
    HTTPGrant,
    Listen,
    Protocol,
    Route,
    Service,
    System,
)

MOST_RPC_BYTES = 32 << 20
DEADLINE_SECONDS = 20.0
PATIENT_SECONDS = 120.0
"""More than the slowest reader takes: what a declared timeout cuts is cut rightly."""
HTTP_PATHS = ("identity", "grants", "retries", "gateway")
"""The callers of ``web``, one by each way of declaring a channel."""

WEBSOCKET = (
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)


@dataclass(frozen=True)
class Answer:
    """What came back, and how it ended."""

    status: int
    head: str
    body: bytes
    trailers: str = ""


def system(ports: Mapping[str, int]) -> System:
    """Callers of every kind, and callees on these ports."""
    grants = tuple(HTTPGrant(method, "/**") for method in ("GET", "POST"))
    return System(
        "shop.internal",
        services={
            "web": Service("web", listens=Listen(Protocol.HTTP, ports["web"])),
            "raw": Service("raw", listens=Listen(Protocol.TCP, ports["raw"])),
            "mail": Service("mail", listens=Listen(Protocol.TCP, ports["mail"])),
            "catalogue": Service("catalogue", listens=Listen(Protocol.GRPC, ports["catalogue"])),
            **{name: Service(name) for name in (*HTTP_PATHS[:-1], "hurried")},
        },
        channels=(
            Channel("identity", "web"),
            Channel("grants", "web", grants, timeout_seconds=PATIENT_SECONDS),
            Channel("retries", "web", grants, retries=2),
            Channel("hurried", "web", timeout_seconds=1.0),
            Channel("identity", "raw"),
            Channel("identity", "mail"),
            Channel("identity", "catalogue"),
        ),
        gateway=Gateway(
            "shop.example",
            (
                Route("/shop.Catalogue/*", "catalogue", ("POST",)),
                Route("/**", "web", ("GET", "POST"), timeout_seconds=DEADLINE_SECONDS),
            ),
            port=free_port("127.0.0.1"),
            max_request_bytes=1 << 30,
        ),
    )


@asynccontextmanager
async def all_paths() -> AsyncIterator[Mesh]:
    """Runs until the block ends."""
    async with AsyncExitStack() as stack:
        servers = {"web": apps.http, "raw": apps.tcp, "mail": apps.greeter}
        ports = {
            name: await stack.enter_async_context(apps.serving(serve))
            for name, serve in servers.items()
        }
        ports["catalogue"] = await stack.enter_async_context(apps.rpc(MOST_RPC_BYTES))
        yield await stack.enter_async_context(running_mesh(system(ports), apps=False))


class Client:
    """One connection to ``web`` by one of the paths."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def ask(self, method: str, path: str, *lines: str, body: bytes = b"") -> Answer:
        """One request and its whole answer."""
        self.say(method, path, *lines, body=body)
        return await self.answer(method)

    def say(self, method: str, path: str, *lines: str, body: bytes = b"") -> None:
        """One request."""
        head = "\r\n".join([f"{method} {path} HTTP/1.1", "Host: shop.example", *lines, "", ""])
        self.writer.write(head.encode() + body)

    async def answer(self, method: str = "GET") -> Answer:
        """The next answer. Raises ``IncompleteReadError`` where it is cut short."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            body, trailers = b"", ""
            if length := re.search(r"(?i)\r\ncontent-length: *(\d+)", head):
                body = await self.reader.readexactly(int(length[1]) if method != "HEAD" else 0)
            elif re.search(r"(?i)\r\ntransfer-encoding: *chunked", head):
                body, trailers = await self._chunks()
            elif " 101 " not in head and " 100 " not in head:
                body = await self.reader.read(-1)
        return Answer(int(head.split(" ")[1]), head.lower(), body, trailers)

    async def _chunks(self) -> tuple[bytes, str]:
        parts = []
        while size := int(await self.reader.readuntil(b"\r\n"), 16):
            parts.append(await self.reader.readexactly(size))
            await self.reader.readexactly(2)
        trailers = ""
        while (line := await self.reader.readuntil(b"\r\n")) != b"\r\n":
            trailers += line.decode("latin-1").strip() + ";"
        return b"".join(parts), trailers

    async def rest(self) -> bytes:
        """All that comes until the end; raises ``ConnectionError`` where that is a reset."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            return await self.reader.read(-1)


@asynccontextmanager
async def client(mesh: Mesh, path: str, **options: Any) -> AsyncIterator[Client]:
    """A connection to ``web`` by this path."""
    if path == "gateway":
        assert mesh.system.gateway is not None
        trusting = ssl.create_default_context(cadata=mesh.authority.bundle().pem().decode())
        where: dict[str, Any] = {
            "host": "127.0.0.1",
            "port": mesh.system.gateway.port,
            "ssl": trusting,
            "server_hostname": "shop.example",
        }
    else:
        host, port = mesh.address(path, "web")
        where = {"host": host, "port": port}
    reader, writer = await asyncio.open_connection(**where, **options)
    try:
        yield Client(reader, writer)
    finally:
        writer.transport.abort()


@asynccontextmanager
async def stream(mesh: Mesh, callee: str = "raw", **options: Any) -> AsyncIterator[Client]:
    """A connection by the path ``tcp``."""
    reader, writer = await asyncio.open_connection(*mesh.address("identity", callee), **options)
    try:
        yield Client(reader, writer)
    finally:
        writer.transport.abort()
