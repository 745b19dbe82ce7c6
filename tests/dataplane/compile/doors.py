"""One request straight at a door, with whatever certificate an attacker has."""

import asyncio
import re
import ssl
from pathlib import Path

from watertight.attack.arena import Credential

DEADLINE_SECONDS = 60.0


def tls(credential: Credential) -> ssl.SSLContext:
    """A client that does not care whom it talks to: the door's judgement is what is tried."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if credential.certificate is not None:
        context.load_cert_chain(credential.certificate, credential.private_key)
    return context


async def exchange(door: Path, credential: Credential, data: bytes) -> bytes:
    """One answer (a door need not close after it); nothing where the door closes without one."""
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            reader, writer = await asyncio.open_unix_connection(
                str(door), ssl=tls(credential), server_hostname="door"
            )
            try:
                writer.write(data)
                return await answer(reader)
            finally:
                writer.transport.abort()
    except (ssl.SSLError, ConnectionError, asyncio.IncompleteReadError):
        return b""


async def answer(reader: asyncio.StreamReader) -> bytes:
    """Head and body of an HTTP/1.1 answer whose length is said."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"(?i)\r\ncontent-length: *([0-9]+)", head)
    return head + await reader.readexactly(int(length[1]) if length else 0)


async def ask(
    door: Path, credential: Credential, method: str, path: str, *lines: str, host: str = "x"
) -> str:
    """The status of the answer to an HTTP/1.1 request, or ``cut`` where there was none."""
    head = [f"{method} {path} HTTP/1.1", f"Host: {host}", "Connection: close", *lines, "", ""]
    got = await exchange(door, credential, "\r\n".join(head).encode())
    return got.split(b" ")[1].decode() if got else "cut"
