"""A minimal HTTP/2 client (RFC 9113) over any wire: requests, and CONNECT streams as wires.

What a server says is taken as it is: headers are not judged, and a GOAWAY ends only what it says
that it ends (h2 takes no frame after one, though the answers in flight come behind it).
"""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import h2.config
import h2.connection
import h2.events
import h2.exceptions

from watertight.attack.frames import GoAway, WithoutGoAway
from watertight.attack.http import Answer, Headers
from watertight.attack.patience import patiently
from watertight.attack.wire import Closed, Wire

Event: TypeAlias = h2.events.Event | GoAway
PING = b"judged?!"


@dataclass(frozen=True, slots=True)
class Burst:
    """What came of many requests at once, until the server had read all of them."""

    count: int
    statuses: tuple[int, ...]
    """Of those that were answered by then, in the order of the answers."""
    reset: int
    """How many the server would not have."""
    read: bool
    """Whether the server has read all of them; if not, nothing is known of the others."""


class HTTP2:
    """One connection; one stream in flight at a time, but for bursts. Use :func:`connect`."""

    def __init__(self, wire: Wire, *, timeout_seconds: float) -> None:
        # An attacker's headers need not be valid, nor need those of the apps that answer him.
        config = h2.config.H2Configuration(
            client_side=True,
            header_encoding="latin-1",
            validate_outbound_headers=False,
            normalize_outbound_headers=False,
            validate_inbound_headers=False,
            normalize_inbound_headers=False,
        )
        self._wire = wire
        self._frames = WithoutGoAway()
        self._leaving: GoAway | None = None
        self._h2 = h2.connection.H2Connection(config=config)
        self.timeout_seconds = timeout_seconds

    async def open(self) -> None:
        """Sends the preface and waits for the server's SETTINGS: proof that it lets us speak.

        Raises ``Closed`` (or ``Alert``) if it does not, ``TimeoutError`` if it keeps silent.
        """
        self._h2.initiate_connection()
        await self._flush()
        async with patiently(self.timeout_seconds):
            while not any(
                isinstance(e, h2.events.RemoteSettingsChanged) for e in await self.events()
            ):
                pass

    async def request(
        self, method: str, path: str, *, authority: str, headers: Headers = (), body: bytes = b""
    ) -> Answer:
        """One request and its answer, not ``whole`` if it is a stream that goes on.

        Raises ``Closed``, ``TimeoutError``.
        """
        pseudo = [
            (":method", method),
            (":scheme", "http"),
            (":authority", authority),
            (":path", path),
        ]
        stream = self._stream([*pseudo, *headers], body)
        await self._flush()
        return await self._answer(stream)

    async def ask(self, fields: Headers, body: bytes = b"") -> Answer:
        """One request of these fields, pseudo-header fields included, and its whole answer.

        Raises ``Closed``, ``TimeoutError``.
        """
        stream = self._stream(fields, body)
        await self._flush()
        return await self._answer(stream)

    async def burst(self, headers: Headers, body: bytes, count: int) -> Burst:
        """``count`` equal requests, pseudo-header fields included, none of which waits.

        A PING goes behind them: frames are processed in the order in which they were sent (RFC
        9113 section 5.1), so that its answer tells that the last request has been read. Whoever
        refuses as it reads has refused by then, however long the others' answers take. Raises
        ``Closed`` if the server takes fewer streams at once.
        """
        for _ in range(count):
            self._stream(headers, body)
        self._h2.ping(PING)
        statuses: list[int] = []
        reset = 0
        read = False
        with contextlib.suppress(Closed, TimeoutError):
            async with patiently(self.timeout_seconds):
                await self._flush()
                while not read:
                    for event in await self.events():
                        if isinstance(event, h2.events.PingAckReceived):
                            read = True
                        elif isinstance(event, h2.events.ResponseReceived):
                            statuses.append(_answer_of(event.headers).status)
                        elif isinstance(event, h2.events.StreamReset):
                            reset += 1
        return Burst(count, tuple(statuses), reset, read)

    async def calls(
        self, headers: Headers, bodies: Sequence[bytes], *, status: str
    ) -> tuple[str, ...]:
        """A request for each body, none of which waits; the field ``status`` of each that ends.

        It stands in the trailers or, where there is no body, among the headers (as with gRPC).
        Raises ``Closed`` if the server takes fewer streams at once.
        """
        unanswered = {self._stream(headers, body) for body in bodies}
        found: list[str] = []
        with contextlib.suppress(Closed, TimeoutError):
            async with patiently(self.timeout_seconds):
                await self._flush()
                while unanswered:
                    for event in await self.events():
                        if isinstance(event, GoAway):
                            continue
                        fields = dict(getattr(event, "headers", None) or ())
                        if status in fields:
                            found.append(str(fields[status]))
                            unanswered.discard(event.stream_id)
                        elif isinstance(event, h2.events.StreamReset):
                            unanswered.discard(event.stream_id)
        return tuple(found)

    async def connect(self, authority: str) -> "Tunnel | Answer":
        """CONNECT (RFC 9113 section 8.5): the open tunnel, or the answer that refuses it."""
        stream = self._start([(":method", "CONNECT"), (":authority", authority)], end=False)
        await self._flush()
        async with patiently(self.timeout_seconds):
            while True:
                for event in await self.events():
                    if isinstance(event, h2.events.ResponseReceived) and event.stream_id == stream:
                        answer = _answer_of(event.headers)
                        ok = 200 <= answer.status < 300 and event.stream_ended is None
                        return Tunnel(self, stream) if ok else answer
                    _raise_if_over(event, stream)

    async def events(self) -> list[Event]:
        """The events of the next bytes. Raises ``Closed`` at the end of the stream."""
        data = await self._wire.receive(self.timeout_seconds)
        if not data:
            raise Closed("connection closed")
        events: list[Event] = []
        for part in self._frames.take(data):
            if isinstance(part, GoAway):
                self._leaving = part
                events.append(part)
            else:
                events += self._received(part)
        await self._flush()
        return events

    def _received(self, data: bytes) -> list[h2.events.Event]:
        try:
            events = self._h2.receive_data(data)
        except h2.exceptions.ProtocolError as error:
            raise Closed(f"not HTTP/2 ({error}): {data[:60]!r}") from error
        for event in events:
            if isinstance(event, h2.events.DataReceived) and event.flow_controlled_length:
                with contextlib.suppress(h2.exceptions.ProtocolError):  # the stream has ended
                    self._h2.acknowledge_received_data(
                        event.flow_controlled_length, event.stream_id
                    )
        return list(events)

    async def send_data(self, stream: int, data: bytes) -> None:
        """DATA on an open stream; small: no flow control beyond the first window."""
        try:
            self._h2.send_data(stream, data)
        except h2.exceptions.ProtocolError as error:
            raise Closed("stream closed") from error
        await self._flush()

    async def close(self) -> None:
        """Ends the connection; never raises."""
        await self._wire.close()

    def _stream(self, headers: Headers, body: bytes) -> int:
        """A whole request, not yet flushed."""
        stream = self._start(headers, end=not body)
        size = self._h2.max_outbound_frame_size
        for start in range(0, len(body), size):
            last = start + size >= len(body)
            self._h2.send_data(stream, body[start : start + size], end_stream=last)
        return stream

    def _start(self, headers: Headers, *, end: bool) -> int:
        if self._leaving is not None:
            raise Closed(str(self._leaving))
        try:
            stream = int(self._h2.get_next_available_stream_id())
            self._h2.send_headers(stream, headers, end_stream=end)
        except h2.exceptions.ProtocolError as error:
            raise Closed(f"connection closed: {error}") from error
        return stream

    async def _answer(self, stream: int) -> Answer:
        answer: Answer | None = None
        body = b""
        trailers: tuple[tuple[str, str], ...] = ()
        try:
            async with patiently(self.timeout_seconds):
                while True:
                    for event in await self.events():
                        if getattr(event, "stream_id", None) != stream:
                            _raise_if_over(event, stream)
                        elif isinstance(event, h2.events.ResponseReceived):
                            answer = _answer_of(event.headers)
                        elif isinstance(event, h2.events.DataReceived):
                            body += event.data or b""
                        elif isinstance(event, h2.events.TrailersReceived):
                            trailers = _fields(event.headers)
                        elif isinstance(event, h2.events.StreamEnded) and answer is not None:
                            return Answer(answer.status, answer.headers, body, trailers)
                        else:
                            _raise_if_over(event, stream)
        except TimeoutError:
            if answer is None:
                raise
            return Answer(answer.status, answer.headers, body, trailers, whole=False)

    async def _flush(self) -> None:
        if data := self._h2.data_to_send():
            await self._wire.send(data)


class Tunnel:
    """A CONNECT stream as a :class:`~watertight.attack.wire.Wire`."""

    def __init__(self, connection: HTTP2, stream: int) -> None:
        self._connection = connection
        self._stream = stream
        self._waiting = b""
        self._ended = False
        self._reset = ""

    async def send(self, data: bytes) -> None:
        """See :class:`~watertight.attack.wire.Wire`."""
        await self._connection.send_data(self._stream, data)

    async def receive(self, timeout_seconds: float) -> bytes:
        """See :class:`~watertight.attack.wire.Wire`."""
        async with patiently(timeout_seconds):
            while not (self._waiting or self._ended or self._reset):
                for event in await self._connection.events():
                    if getattr(event, "stream_id", None) == self._stream:
                        self._take(event)
        if self._reset and not self._waiting:  # what came before the reset is delivered first
            raise Closed(self._reset)
        data, self._waiting = self._waiting, b""
        return data

    def _take(self, event: Event) -> None:
        if isinstance(event, h2.events.DataReceived):
            self._waiting += event.data or b""
        elif isinstance(event, h2.events.StreamReset):
            self._reset = f"stream reset, error {event.error_code}"
        elif isinstance(event, h2.events.StreamEnded):
            self._ended = True

    async def close(self) -> None:
        """See :class:`~watertight.attack.wire.Wire`."""
        await self._connection.close()


def _answer_of(headers: Sequence[tuple[str, str]] | None) -> Answer:
    fields = _fields(headers)
    status = int(next(v for k, v in fields if k == ":status"))
    return Answer(status, tuple(f for f in fields if not f[0].startswith(":")))


def _fields(headers: Sequence[tuple[str, str]] | None) -> tuple[tuple[str, str], ...]:
    return tuple((str(k).lower(), str(v)) for k, v in headers or ())


def _raise_if_over(event: Event, stream: int) -> None:
    if isinstance(event, GoAway) and event.ends(stream):
        raise Closed(str(event))
    if isinstance(event, h2.events.StreamReset) and event.stream_id == stream:
        raise Closed(f"stream reset, error {event.error_code}")


async def connect(wire: Wire, *, timeout_seconds: float) -> HTTP2:
    """Speaks HTTP/2 over ``wire`` until the server's SETTINGS; closes it on failure."""
    connection = HTTP2(wire, timeout_seconds=timeout_seconds)
    try:
        await connection.open()
    except BaseException:
        await wire.close()
        raise
    return connection
