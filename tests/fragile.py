"""A gRPC server that answers with what it was asked, and takes some things very ill.

Servers do: nginx, Node and hyper close a connection on which many streams are reset; some end a
connection over one bad message; and there were those that a flood of frames brought down whole.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings

MOST_RESETS = 100
MOST_STREAMS = 1_000
MOST_CONTROL_FRAMES = 500
KNOWN_ENCODINGS = {"", "identity"}


@dataclass
class Fragile:
    """The running server."""

    port: int = 0
    live: set["_Connection"] = field(default_factory=set)
    crashes: list[str] = field(default_factory=list)
    """Why it lost everybody's connection, each time."""

    def crash(self, reason: str) -> None:
        """Loses everybody's connection."""
        self.crashes.append(reason)
        for connection in list(self.live):
            connection.abort()


class _Connection(asyncio.Protocol):
    def __init__(self, server: Fragile) -> None:
        self._server = server
        config = h2.config.H2Configuration(
            client_side=False,
            header_encoding="latin-1",
            validate_inbound_headers=False,
            validate_outbound_headers=False,
        )
        self._h2 = h2.connection.H2Connection(config)
        most = {h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: MOST_STREAMS}
        self._h2.local_settings = h2.settings.Settings(client=False, initial_values=most)
        self._transport: asyncio.Transport | None = None
        self._asked: dict[int, bytes] = {}
        self._answers: dict[int, bytes] = {}
        self._counts: Counter[str] = Counter()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._server.live.add(self)
        self._h2.initiate_connection()
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.live.discard(self)

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        try:
            events = self._h2.receive_data(data)
        except h2.exceptions.ProtocolError as error:
            self._flush()
            self._server.crash(f"{type(error).__name__}: {error}")
            return
        for event in events:
            self._on(event)
        for stream in list(self._answers):
            self._go_on(stream)
        self._flush()

    def _on(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.RequestReceived):
            self._asked[event.stream_id] = b""
            if dict(event.headers or ()).get("grpc-encoding", "") not in KNOWN_ENCODINGS:
                self.abort()
        elif isinstance(event, h2.events.DataReceived):
            self._asked[event.stream_id] += event.data or b""
            with contextlib.suppress(h2.exceptions.ProtocolError):
                self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            self._count("empty", not event.data, MOST_CONTROL_FRAMES)
        elif isinstance(event, h2.events.StreamEnded) and event.stream_id in self._asked:
            fields = [(":status", "200"), ("content-type", "application/grpc")]
            with contextlib.suppress(h2.exceptions.ProtocolError):  # reset meanwhile
                self._h2.send_headers(event.stream_id, fields)
            self._answers[event.stream_id] = self._asked.pop(event.stream_id)
        elif isinstance(event, h2.events.StreamReset):
            self._asked.pop(event.stream_id, None)
            self._answers.pop(event.stream_id, None)
            self._counts["resets"] += 1
            if self._counts["resets"] > MOST_RESETS:
                self.abort()
        elif isinstance(event, h2.events.ConnectionTerminated):
            self._server.crash("GOAWAY")
        elif not isinstance(event, h2.events.WindowUpdated | h2.events.StreamEnded):
            self._count("control", True, MOST_CONTROL_FRAMES)

    def _count(self, kind: str, one: bool, most: int) -> None:
        self._counts[kind] += one
        if self._counts[kind] > most:
            self._server.crash(f"{kind} frames")

    def _go_on(self, stream: int) -> None:
        """As much of an answer as there is room for."""
        try:
            while left := self._answers[stream]:
                room = min(
                    self._h2.local_flow_control_window(stream),
                    self._h2.max_outbound_frame_size,
                    len(left),
                )
                if room <= 0:
                    return
                self._h2.send_data(stream, left[:room])
                self._answers[stream] = left[room:]
            self._h2.send_headers(stream, [("grpc-status", "0")], end_stream=True)
        except h2.exceptions.ProtocolError:
            pass
        self._answers.pop(stream, None)

    def _flush(self) -> None:
        if self._transport is not None and (data := self._h2.data_to_send()):
            self._transport.write(data)


@asynccontextmanager
async def fragile() -> AsyncIterator[Fragile]:
    """Runs one until the block ends."""
    made = Fragile()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(made), "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    async with server:
        yield made
