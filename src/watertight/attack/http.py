"""HTTP answers, and HTTP/1.1 spoken byte by byte (an attacker's messages are often wrong)."""

import contextlib
import http.client
import io
from collections.abc import Sequence
from dataclasses import dataclass

from watertight.attack.patience import patiently
from watertight.attack.places import idle
from watertight.attack.wire import Closed, Wire

MAX_ANSWER_BYTES = 4_194_304
HEAD_END = b"\r\n\r\n"
AFTER_CLOSE_SECONDS = 0.5
Headers = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP response; header names in lower case. ``trailers`` only over HTTP/2."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    trailers: tuple[tuple[str, str], ...] = ()
    whole: bool = True
    """False if its body had not ended when time or patience was up: a stream of events."""

    def header(self, name: str) -> str | None:
        """The first header (or trailer) of that lower-case name."""
        found = (v for k, v in (*self.headers, *self.trailers) if k == name)
        return next(found, None)

    def text(self) -> str:
        """The first bytes of the body, for a report."""
        return self.body[:120].decode(errors="replace").strip()


class _Received(io.BytesIO):
    """Received bytes as ``http.client`` wants them: a socket that is its own file.

    A response closes its file at the end of its body; here the next one follows.
    """

    def makefile(self, _mode: str) -> "_Received":
        return self

    def close(self) -> None:
        pass


def parse_answers(
    data: bytes, methods: Sequence[str], *, ended: bool, unfinished: bool = False
) -> tuple[Answer, ...]:
    """The complete responses in ``data`` to requests of these methods, in order.

    ``ended``: the connection is closed, so that a body without a length is complete.
    ``unfinished``: one whose head alone is complete counts too, as the last, not ``whole``.
    """
    stream = _Received(data)
    answers: list[Answer] = []
    for method in methods:
        if unfinished and HEAD_END not in stream.getvalue()[stream.tell() :]:
            break
        response = http.client.HTTPResponse(stream, method=method)  # type: ignore[arg-type]
        try:
            response.begin()
        except (http.client.HTTPException, ValueError, OSError):
            break
        headers = tuple((k.lower(), v) for k, v in response.getheaders())
        if method == "HEAD":  # no body follows, whatever it says of one (RFC 9112 section 6.3)
            headers = tuple(field for field in headers if field[0] != "transfer-encoding")
        body = _body(response, ended=ended)
        if body is None:
            if unfinished:
                answers.append(Answer(response.status, headers, whole=False))
            break
        answers.append(Answer(response.status, headers, body))
    return tuple(answers)


def _body(response: http.client.HTTPResponse, *, ended: bool) -> bytes | None:
    """The whole body; None if it has not come yet."""
    if response.length is None and not response.chunked and not ended:
        return None
    try:
        return response.read()
    except (http.client.HTTPException, ValueError, OSError):
        return None


def request_bytes(method: str, target: str, headers: Headers, body: bytes = b"") -> bytes:
    """One HTTP/1.1 request, exactly as given: nothing is checked, added or normalised."""
    lines = [f"{method} {target} HTTP/1.1", *(f"{k}: {v}" for k, v in headers)]
    if body:
        lines.append(f"content-length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


@dataclass(frozen=True, slots=True)
class Exchange:
    """What came back on one connection: the answers, and whether the peer closed it."""

    answers: tuple[Answer, ...]
    closed: bool
    detail: str = ""


async def exchange(
    wire: Wire, data: bytes, methods: Sequence[str], *, timeout_seconds: float
) -> Exchange:
    """Sends raw bytes; reads until all ``methods`` are answered, the peer closes or time is up.

    A peer that says that it closes (RFC 9112 section 9.6) may leave the closing to us: then time is
    up once it says nothing for ``AFTER_CLOSE_SECONDS``.
    """
    received = b""
    quiet = timeout_seconds
    try:
        await wire.send(data)
        async with patiently(timeout_seconds):
            while len(received) < MAX_ANSWER_BYTES:
                waiting = idle() if quiet < timeout_seconds else contextlib.nullcontext()
                with waiting:
                    chunk = await wire.receive(quiet)
                received += chunk
                answers = parse_answers(received, methods, ended=not chunk)
                if not chunk or len(answers) == len(methods):
                    return Exchange(answers, closed=not chunk, detail="closed")
                if answers and answers[-1].header("connection") == "close":
                    quiet = AFTER_CLOSE_SECONDS
    except TimeoutError:
        answers = parse_answers(received, methods, ended=False, unfinished=True)
        return Exchange(answers, closed=False, detail="time is up")
    except Closed as end:
        return Exchange(parse_answers(received, methods, ended=True), closed=True, detail=str(end))
    answers = parse_answers(received, methods, ended=False, unfinished=True)
    return Exchange(answers, closed=False, detail="too long")
