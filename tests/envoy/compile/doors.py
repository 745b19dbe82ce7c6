"""One HTTP/2 request straight at a door, with whatever certificate an attacker has."""

import asyncio
import ssl
from collections.abc import Mapping
from pathlib import Path

import h2.config
import h2.connection
import h2.events

from watertight.enforcers.contract import Credential

DEADLINE_SECONDS = 20.0


def tls(credential: Credential) -> ssl.SSLContext:
    """A client that does not care whom it talks to: the door's judgement is what is tried."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    if credential.certificate is not None:
        context.load_cert_chain(credential.certificate, credential.private_key)
    return context


async def ask(door: Path, credential: Credential, headers: Mapping[str, str]) -> str:
    """The status of the answer, or ``cut`` where the connection ended without one."""
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            reader, writer = await asyncio.open_unix_connection(
                str(door), ssl=tls(credential), server_hostname="door"
            )
            return await _request(reader, writer, headers)
    except (ssl.SSLError, ConnectionError):
        return "cut"


async def _request(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, headers: Mapping[str, str]
) -> str:
    connection = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
    connection.initiate_connection()
    connection.send_headers(1, list(headers.items()), end_stream=headers[":method"] != "CONNECT")
    writer.write(connection.data_to_send())
    try:
        while data := await reader.read(65_536):
            for event in connection.receive_data(data):
                if isinstance(event, h2.events.ResponseReceived):
                    return str(dict(event.headers)[":status"])
        return "cut"
    finally:
        writer.transport.abort()
