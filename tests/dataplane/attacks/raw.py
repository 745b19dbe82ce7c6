"""Weakenings after which nobody reads HTTP on the way: bytes as they are, frames written down."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import h2.config
import h2.connection
import h2.events

from tests.careless import Careless
from tests.dataplane.attacks import weaken
from tests.dataplane.attacks.weaken import PREFIX, Json, Weaken, listener, together
from watertight.dataplane.resources import EnvoyPlan, Resource, ResourceType

DESYNC_SABOTAGES = frozenset(
    {
        "desync.0-cl",
        "desync.chunks",
        "desync.cl-0",
        "desync.cl-te",
        "desync.client-side",
        "desync.expect",
        "desync.h2-cl",
        "desync.h2-injection",
        "desync.h2-pseudo",
        "desync.h2-te",
        "desync.hop-by-hop",
        "desync.http-1.0",
        "desync.pause",
        "desync.te-0",
        "desync.te-cl",
        "desync.te-te",
        "desync.trailers",
        "desync.upgrade",
    }
)


def bytes_to(cluster: str) -> weaken.Edit:
    """Listener: bytes are passed on to a cluster; TLS, if there is any, stays."""

    def edit(body: Json) -> None:
        body["filter_chains"][0]["filters"] = [
            {
                "name": "envoy.filters.network.tcp_proxy",
                "typed_config": {
                    "@type": f"{PREFIX}extensions.filters.network.tcp_proxy.v3.TcpProxy",
                    "stat_prefix": "raw",
                    "cluster": cluster,
                },
            }
        ]

    return edit


def static_cluster(name: str, port: int) -> Resource:
    """A cluster of one TCP port of this host."""
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    endpoints = [{"lb_endpoints": [{"endpoint": {"address": address}}]}]
    assignment = {"cluster_name": name, "endpoints": endpoints}
    body = {"name": name, "type": "STATIC", "load_assignment": assignment}
    return Resource(ResourceType.CLUSTER, name, body)


def straight_through(caller: str, callee: str, app: Careless) -> Weaken:
    """The caller's bytes reach the app as they are; mTLS between the proxies stays."""

    def cluster(_plan: EnvoyPlan) -> Resource:
        return static_cluster("raw", app.port)

    return together(
        listener(caller, f"out|{callee}", bytes_to(f"out|{callee}")),
        weaken.adding(callee, cluster),
        listener(callee, f"in|{caller}", bytes_to("raw")),
    )


def downgraded(port: int) -> Weaken:
    """The gateway ends TLS only, and passes frames to :func:`naive`."""

    def cluster(_plan: EnvoyPlan) -> Resource:
        return static_cluster("naive", port)

    return together(
        weaken.adding("gateway", cluster), listener("gateway", "https", bytes_to("naive"))
    )


@asynccontextmanager
async def naive(app_port: int) -> AsyncIterator[int]:
    """A server of HTTP/2 that writes requests down in HTTP/1.1, whatever is in them."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = await reader.read(65_536)
        back, forth = await asyncio.open_connection("127.0.0.1", app_port)
        with contextlib.suppress(ConnectionError, Exception):
            if first.startswith(b"PRI * HTTP/2.0"):
                await _frames(first, reader, writer, back, forth)
            else:
                forth.write(first)
                await asyncio.gather(_copy(reader, forth), _copy(back, writer))
        forth.close()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()
    writer.close()


async def _frames(
    data: bytes,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    back: asyncio.StreamReader,
    forth: asyncio.StreamWriter,
) -> None:
    config = h2.config.H2Configuration(
        client_side=False, validate_inbound_headers=False, header_encoding="latin-1"
    )
    connection = h2.connection.H2Connection(config)
    connection.initiate_connection()
    while data:
        for event in connection.receive_data(data):
            if isinstance(event, h2.events.RequestReceived):
                forth.write(_written_down(list(event.headers or ())))
            elif isinstance(event, h2.events.DataReceived):
                forth.write(event.data or b"")
            elif isinstance(event, h2.events.StreamEnded):
                await back.readuntil(b"careless")
                fields = [(":status", "200"), ("content-length", "8")]
                connection.send_headers(event.stream_id, fields)
                connection.send_data(event.stream_id, b"careless", end_stream=True)
        writer.write(connection.data_to_send())
        await writer.drain()
        data = await reader.read(65_536)


def _written_down(fields: list[tuple[str, str]]) -> bytes:
    named = dict(fields)
    lines = [f"{named[':method']} {named[':path']} HTTP/1.1", f"host: {named[':authority']}"]
    lines += [f"{name}: {value}" for name, value in fields if not name.startswith(":")]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")
