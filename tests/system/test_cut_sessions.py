"""What a revocation says that it ended is what it ended: what others had open, too."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.folders import public_folder
from tests.planes import sealed
from tests.ports import free_port
from watertight.control.plane import ControlPlane
from watertight.control.revocation import restore, revoke

APP = """
import socketserver

class Upgraded(socketserver.StreamRequestHandler):
    def handle(self):
        while self.rfile.readline().strip():
            pass
        head = b"HTTP/1.1 101 Switching Protocols\\r\\nConnection: Upgrade\\r\\nUpgrade: websocket"
        self.wfile.write(head + b"\\r\\n\\r\\n")
        self.rfile.read()

socketserver.ThreadingTCPServer(("127.0.0.1", 8000), Upgraded).serve_forever()
"""
ASK = "GET /live HTTP/1.1\r\nHost: shop.example\r\n"
ASK += "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


def _declare(directory: Path, port: int) -> Path:
    (directory / "app.py").write_text(APP)
    declaration = directory / "watertight.yaml"
    declaration.write_text(
        "trust_domain: shop.internal\n"
        "services:\n"
        "  api: {run: [python, app.py], listens: {http: 8000}}\n"
        "gateway:\n"
        "  hostname: shop.example\n"
        f"  listen: 127.0.0.1:{port}\n"
        "  routes: [{path: /live, to: api, require: anyone}]\n"
    )
    return declaration


@asynccontextmanager
async def _web_socket(port: int) -> AsyncIterator[asyncio.StreamReader]:
    """One that the app has taken."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=context, server_hostname="shop.example"
    )
    try:
        writer.write(ASK.encode())
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 "), head
        yield reader
    finally:
        writer.close()


async def _ended(reader: asyncio.StreamReader) -> bool:
    try:
        return await reader.read() == b""
    except ConnectionError:
        return True


async def _cut(plane: ControlPlane, port: int) -> int:
    async with _web_socket(port) as one, _web_socket(port) as other, asyncio.timeout(20):
        cut = await revoke(plane, "api")
        assert await _ended(one)
        assert await _ended(other)
    return cut.sessions


async def test_the_web_sockets_that_users_had_open_are_counted() -> None:
    port = free_port()
    with public_folder() as directory:
        async with sealed(_declare(directory, port)) as plane:
            assert await _cut(plane, port) == 2
            await restore(plane, "api")
            cut = await revoke(plane, "api")
    assert cut.sessions == 0
