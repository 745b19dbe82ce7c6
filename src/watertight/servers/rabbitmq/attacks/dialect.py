"""RabbitMQ as an attacker speaks it: any mechanism, any response, any virtual host."""

import ssl
import struct
from collections.abc import Collection
from dataclasses import dataclass

from watertight.attack.login import Login, LoginRefused
from watertight.attack.make import ProbeMaker
from watertight.attack.probe import Observation, not_run, refused, served
from watertight.attack.wire import Wire
from watertight.servers.rabbitmq.attacks import frames
from watertight.servers.rabbitmq.attacks.frames import Frames, Method
from watertight.servers.rabbitmq.declaration import KIND

ACCESS_REFUSED, NOT_ALLOWED = 403, 530
NOT_FOUND, PRECONDITION_FAILED = 404, 406
INTERNAL_ERROR = 541
_CHANNEL = 1
_MAX_FRAME = 131_072

MAKE = ProbeMaker(KIND)


@dataclass(slots=True)
class RabbitMQDialect:
    """Implements :class:`~watertight.attack.login.Dialect`."""

    enforcer: str = KIND
    alpn: tuple[str, ...] = ()
    lowest_tls: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
    tells_who: bool = False
    mechanism: str = "EXTERNAL"
    response: bytes = b""
    virtual_host: str | None = None
    """None: the resource's own."""
    channel_max: int = 16
    frame_max: int = _MAX_FRAME
    header: bytes = frames.HEADER
    """Which protocol, and which version of it."""

    async def prelude(self, wire: Wire, *, secure: bool) -> None:
        """TLS begins at once, and so does a login in the clear."""

    async def login(self, wire: Wire, login: Login) -> None:
        """Opens a connection to the virtual host, and a channel.

        The broker knows us by our certificate, and does not say whom it takes us for: that shows
        in what we may do.
        """
        incoming = Frames(wire)
        header, answer, opening, channel = login_frames(self, login.resource.name)
        await wire.send(header)
        await _expect(incoming, frames.START)
        await wire.send(answer)
        await _expect(incoming, frames.TUNE)
        await wire.send(opening)
        await _expect(incoming, frames.OPEN_OK)
        await wire.send(channel)
        await _expect(incoming, frames.CHANNEL_OPEN_OK)


def login_frames(spoken: RabbitMQDialect, resource: str) -> tuple[bytes, bytes, bytes, bytes]:
    """What a client sends until it has a channel, each once the one before is answered."""
    answer = frames.client_properties() + frames.short(spoken.mechanism)
    answer += frames.long(spoken.response) + frames.short("en_US")
    tune = struct.pack(">HIH", spoken.channel_max, spoken.frame_max, 0)
    host = resource if spoken.virtual_host is None else spoken.virtual_host
    opening = frames.short(host) + frames.short("") + b"\x00"
    return (
        spoken.header,
        frames.method(0, frames.START_OK, answer),
        frames.method(0, frames.TUNE_OK, tune) + frames.method(0, frames.OPEN, opening),
        OPEN,
    )


async def _expect(incoming: Frames, kind: tuple[int, int]) -> Method:
    found = await incoming.method()
    if found.kind in (frames.CONNECTION_CLOSE, frames.CHANNEL_CLOSE):
        code, text = found.refusal()
        raise LoginRefused(f"{code} {text}")
    if found.kind != kind:
        raise LoginRefused(f"asks for more: method {found.kind}")
    return found


async def act(
    wire: Wire,
    request: bytes,
    answer: tuple[int, int],
    *,
    no: Collection[int] = (ACCESS_REFUSED, NOT_ALLOWED),
) -> Observation:
    """One method and its answer; a refusal is told by its code (``no``), never by its text."""
    await wire.send(request)
    found = await Frames(wire).method()
    if found.kind == answer:
        return served(f"method {answer} answers")
    if found.kind in (frames.CONNECTION_CLOSE, frames.CHANNEL_CLOSE):
        code, text = found.refusal()
        if found.kind == frames.CHANNEL_CLOSE:
            await wire.send(frames.method(_CHANNEL, frames.CHANNEL_CLOSE_OK))
        said = f"{code} {text}"[:200]
        if code in no:
            return refused(said)
        if code == INTERNAL_ERROR:  # no answer, but a crash, with all that its log says of it
            return served(said)
        if code in (NOT_FOUND, PRECONDITION_FAILED):  # judged after the permission
            return served(f"permitted, but {said}")
        return not_run(said)
    return served(f"method {found.kind} answers")


# --- what may be asked (specification, sections 1.6 to 1.9) ---------------------------------------


def declare_queue(
    name: str, *, exclusive: bool = False, passive: bool = False, table: bytes = frames.EMPTY_TABLE
) -> bytes:
    """Queue.Declare; its answer is (50, 11)."""
    bits = bytes([4 * exclusive + passive])
    return frames.method(_CHANNEL, (50, 10), b"\x00\x00" + frames.short(name) + bits + table)


def declare_exchange(
    name: str, *, passive: bool = False, table: bytes = frames.EMPTY_TABLE
) -> bytes:
    """Exchange.Declare; its answer is (40, 11)."""
    names = frames.short(name) + frames.short("fanout")
    return frames.method(_CHANNEL, (40, 10), b"\x00\x00" + names + bytes([passive]) + table)


def delete_queue(name: str) -> bytes:
    """Queue.Delete, only if it is unused and empty; its answer is (50, 41)."""
    return frames.method(_CHANNEL, (50, 40), b"\x00\x00" + frames.short(name) + b"\x03")


def delete_exchange(name: str) -> bytes:
    """Exchange.Delete, only if it is unused; its answer is (40, 21)."""
    return frames.method(_CHANNEL, (40, 20), b"\x00\x00" + frames.short(name) + b"\x01")


def purge(name: str) -> bytes:
    """Queue.Purge; its answer is (50, 31)."""
    return frames.method(_CHANNEL, (50, 30), b"\x00\x00" + frames.short(name) + b"\x00")


def bind(queue: str, exchange: str, key: str) -> bytes:
    """Queue.Bind; its answer is (50, 21)."""
    names = frames.short(queue) + frames.short(exchange) + frames.short(key)
    return frames.method(_CHANNEL, (50, 20), b"\x00\x00" + names + b"\x00" + frames.EMPTY_TABLE)


def unbind(queue: str, exchange: str, key: str) -> bytes:
    """Queue.Unbind; its answer is (50, 51)."""
    names = frames.short(queue) + frames.short(exchange) + frames.short(key)
    return frames.method(_CHANNEL, (50, 50), b"\x00\x00" + names + frames.EMPTY_TABLE)


def bind_exchange(exchange: str, source: str, key: str) -> bytes:
    """Exchange.Bind; its answer is (40, 31)."""
    names = frames.short(exchange) + frames.short(source) + frames.short(key)
    return frames.method(_CHANNEL, (40, 30), b"\x00\x00" + names + b"\x00" + frames.EMPTY_TABLE)


def consume(queue: str, *, exclusive: bool = False, priority: int | None = None) -> bytes:
    """Basic.Consume, nothing acknowledged; its answer is (60, 21).

    ``priority``: below zero it comes behind every other reader
    (rabbitmq.com/docs/consumer-priority). Basic.Qos should come before.
    """
    arguments = b"\x00\x00" + frames.short(queue) + frames.short("watertight-probe")
    table = b"" if priority is None else _priority(priority)
    arguments += bytes([4 * exclusive]) + frames.long(table)
    return frames.method(_CHANNEL, (60, 20), arguments)


def _priority(priority: int) -> bytes:
    return frames.short("x-priority") + b"I" + struct.pack(">i", priority)


ONE_AT_A_TIME = frames.method(_CHANNEL, (60, 10), struct.pack(">IHB", 0, 1, 0))


def publish(
    exchange: str,
    key: str,
    *,
    headers: bytes = b"",
    user: str = "",
    body: bytes = b"x",
) -> bytes:
    """A message within a transaction that is rolled back: judged, and never delivered.

    Tx.Select, Basic.Publish, Tx.Rollback; the answers are (90, 11) and (90, 31). ``headers``: the
    fields of a table; ``user``: the property ``user-id`` (section 1.8.3.12).
    """
    names = b"\x00\x00" + frames.short(exchange) + frames.short(key) + b"\x00"
    flags = _HEADERS * bool(headers) | _USER * bool(user)
    content = struct.pack(">HHQH", 60, 0, len(body), flags)
    content += frames.long(headers) if headers else b""
    content += frames.short(user) if user else b""
    largest = _MAX_FRAME - 8
    bodies = [body[at : at + largest] for at in range(0, len(body), largest)]
    return (
        frames.method(_CHANNEL, (60, 40), names)
        + frames.frame(frames.CONTENT, _CHANNEL, content)
        + b"".join(frames.frame(frames.BODY, _CHANNEL, part) for part in bodies)
        + frames.method(_CHANNEL, (90, 30))
    )


_HEADERS, _USER = 1 << 13, 1 << 4
"""Bits of the property flags (section 4.2.6.1)."""
OPEN = frames.method(_CHANNEL, frames.CHANNEL_OPEN, frames.short(""))
"""The channel again, after a refusal closed it; its answer is (20, 11)."""
SELECT = frames.method(_CHANNEL, (90, 10))
