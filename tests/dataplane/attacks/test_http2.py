"""The attacker's HTTP/2 takes what real servers say, however they cut and order it."""

import pytest
from hpack import Encoder
from hyperframe.frame import (
    AltSvcFrame,
    ContinuationFrame,
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from watertight.attack.http import Answer
from watertight.attack.http2 import HTTP2, connect
from watertight.attack.wire import Closed

FIELDS = [
    (":status", "200"),
    ("content-type", "application/grpc"),
    ("x-space", " around "),
    ("x-latin", "caf\xe9"),
    ("X-Upper", "case"),
]
TRAILERS = [("grpc-status", "0")]
FIRST_STREAM = 1


class Script:
    """A wire on which a server says, ``step`` bytes at a time, what was written for it."""

    def __init__(self, frames: list[Frame], step: int, *, silent_after: bool = False) -> None:
        self._says = b"".join(frame.serialize() for frame in frames)
        self._step = step
        self._silent_after = silent_after

    async def send(self, data: bytes) -> None:
        """Heard, and not judged."""

    async def receive(self, timeout_seconds: float) -> bytes:
        if not self._says and self._silent_after:
            raise TimeoutError
        said, self._says = self._says[: self._step], self._says[self._step :]
        return said

    async def close(self) -> None:
        """Nothing to close."""


def headers(fields: list[tuple[str, str]], *, end: bool, **more: int) -> list[Frame]:
    """One block of headers; with ``pad`` and ``priority`` it is cut in two frames as well."""
    block = Encoder().encode([(k.encode("latin-1"), v.encode("latin-1")) for k, v in fields])
    first = HeadersFrame(FIRST_STREAM, block)
    if end:
        first.flags.add("END_STREAM")
    if not more:
        first.flags.add("END_HEADERS")
        return [first]
    first.flags |= {"PADDED", "PRIORITY"}
    first.pad_length, first.depends_on, first.stream_weight = more["pad"], 0, 16
    first.data = block[:5]
    rest = ContinuationFrame(FIRST_STREAM, block[5:])
    rest.flags.add("END_HEADERS")
    return [first, rest]


def data(content: bytes) -> DataFrame:
    frame = DataFrame(FIRST_STREAM, content)
    frame.flags.add("PADDED")
    frame.pad_length = 7
    return frame


def leaving(last_stream: int, error: int = 0) -> GoAwayFrame:
    return GoAwayFrame(0, last_stream_id=last_stream, error_code=error, additional_data=b"max_age")


def acknowledged() -> SettingsFrame:
    frame = SettingsFrame(0)
    frame.flags.add("ACK")
    return frame


BEFORE: dict[str, list[Frame]] = {
    "nothing": [],
    "settings acknowledged": [acknowledged()],
    "window first": [WindowUpdateFrame(0, window_increment=65_535)],
    "ping": [PingFrame(0, opaque_data=b"12345678")],
    "an extension": [AltSvcFrame(0, origin=b"x", field=b"clear")],
    "going away with grace": [leaving(2**31 - 1), leaving(FIRST_STREAM)],
}
ANSWERS: dict[str, list[Frame]] = {
    "plain": [*headers(FIELDS, end=False), data(b"body"), *headers(TRAILERS, end=True)],
    "padded": [
        *headers(FIELDS, end=False, pad=9),
        data(b"body"),
        *headers(TRAILERS, end=True, pad=1),
    ],
}


async def opened(frames: list[Frame], step: int = 100_000, **options: bool) -> HTTP2:
    settings = SettingsFrame(0, settings={3: 100, 0x99: 1})
    return await connect(Script([settings, *frames], step, **options), timeout_seconds=1)


async def asked(connection: HTTP2) -> Answer:
    return await connection.request("POST", "/a.B/C", authority="b:1", body=b"\0\0\0\0\0")


@pytest.mark.parametrize("step", [1, 7, 100_000])
@pytest.mark.parametrize("before", BEFORE)
@pytest.mark.parametrize("shape", ANSWERS)
async def test_an_answer_is_taken_however_it_comes(before: str, shape: str, step: int) -> None:
    if step == 100_000:  # all of it with the settings: the answer is there before the question
        step = len(SettingsFrame(0, settings={3: 100, 0x99: 1}).serialize())
    answer = await asked(await opened([*BEFORE[before], *ANSWERS[shape]], step))
    assert (answer.status, answer.body, answer.trailers) == (200, b"body", (("grpc-status", "0"),))
    assert answer.header("x-space") == " around "
    assert answer.header("x-latin") == "caf\xe9"
    assert answer.header("x-upper") == "case"
    assert answer.whole


@pytest.mark.parametrize("goodbye", [leaving(0), leaving(FIRST_STREAM, error=11)], ids=str)
async def test_a_goodbye_that_means_our_stream_ends_it(goodbye: GoAwayFrame) -> None:
    with pytest.raises(Closed, match="GOAWAY"):
        await asked(await opened([acknowledged(), goodbye, *ANSWERS["plain"]], 20))


async def test_a_stream_of_messages_that_goes_on_is_an_answer() -> None:
    frames = [*headers(FIELDS, end=False), data(b"first")]
    answer = await asked(await opened(frames, 15, silent_after=True))
    assert (answer.status, answer.body, answer.whole) == (200, b"first", False)


async def test_silence_is_no_answer() -> None:
    with pytest.raises(TimeoutError):
        await asked(await opened([acknowledged()], silent_after=True))


async def test_another_protocol_is_named_as_it_is() -> None:
    class HTTP1(Script):
        async def receive(self, timeout_seconds: float) -> bytes:
            return b"HTTP/1.1 400 Bad Request\r\n\r\n"

    with pytest.raises(Closed, match="not HTTP/2"):
        await connect(HTTP1([], 1), timeout_seconds=1)
