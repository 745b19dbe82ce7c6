"""Services of the shop as they speak to its broker, with their own certificates."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import aio_pika
from aio_pika.abc import AbstractConnection

from tests.servers import Rig


@asynccontextmanager
async def connected(rig: Rig, service: str) -> AsyncIterator[AbstractConnection]:
    """A connection of ``service``, with its own certificate."""
    credentials = rig.host.placement.credentials(service)
    context = ssl.create_default_context(cafile=str(credentials / "bundle.pem"))
    context.load_cert_chain(credentials / "certificate.pem", credentials / "private_key.pem")
    context.check_hostname = False  # the name is the resource's, the address is not
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
