"""HTTP/1.1 as a witness overheard it: which requests an app was sent, and which answers it gave.

A proxy that is in order sends one request at a time, each with one length that nobody can mistake
(RFC 9112 section 6.3). So an answer that no request was sent for tells that the app took for a
request what its proxy took for something else.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from watertight.enforcers.attack.http import Answer
from watertight.enforcers.witness import Conversation

MOST_MESSAGES = 1_000
SWITCHING = 101


@dataclass(frozen=True, slots=True)
class Heard:
    """One request as it reached an app."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str:
        """All values of that lower-case name, joined."""
        return ", ".join(value for key, value in self.headers if key == name)


def requests_in(data: bytes) -> tuple[Heard, ...]:
    """The requests in what a proxy sent, in order; the last one may lack some of its body."""
    found: list[Heard] = []
    while data and len(found) < MOST_MESSAGES:
        head, separator, rest = data.partition(b"\r\n\r\n")
        line, *fields = head.decode("latin-1").split("\r\n")
        words = line.split(" ")
        if not separator or len(words) < 2:
            break
        headers = tuple(_field(field) for field in fields)
        body, data = _body(dict(headers), rest)
        found.append(Heard(words[0], words[1], headers, body))
        if dict(headers).get("upgrade"):
            break  # what follows may be another protocol
    return tuple(found)


def _body(headers: dict[str, str], rest: bytes) -> tuple[bytes, bytes]:
    if "chunked" in headers.get("transfer-encoding", "").lower():
        body, rest, _done = _chunks(rest)
        return body, rest
    length = headers.get("content-length", "0")
    size = int(length) if length.isdecimal() else 0
    return rest[:size], rest[size:]


def _chunks(rest: bytes) -> tuple[bytes, bytes, bool]:
    """The body so far, what follows it, and whether its end was there."""
    body = b""
    while True:
        line, separator, rest = rest.partition(b"\r\n")
        size = line.split(b";")[0].strip()
        if not separator or not size or set(size) - set(b"0123456789abcdefABCDEF"):
            return body, b"", False
        if int(size, 16) == 0:
            break
        body += rest[: int(size, 16)]
        rest = rest[int(size, 16) + 2 :]
    if rest.startswith(b"\r\n"):
        return body, rest[2:], True
    _trailers, separator, rest = rest.partition(b"\r\n\r\n")
    return body, rest, bool(separator)


def answers_in(data: bytes, methods: Sequence[str], *, ended: bool) -> tuple[list[Answer], bytes]:
    """The app's answers to requests of these methods, and what it said beyond the last of them.

    Read here and not by ``http.client``: a proof reads so many that it would cost seconds.
    """
    answers: list[Answer] = []
    for method in methods:
        answer, rest = _answer(data, method, ended=ended)
        if answer is None:
            return answers, b""  # not finished: nothing can be said of what follows
        answers.append(answer)
        if answer.status == SWITCHING:
            return answers, b""
        data = rest
    return answers, data


def _answer(data: bytes, method: str, *, ended: bool) -> tuple[Answer | None, bytes]:
    """The next final answer; interim ones (RFC 9110 section 15.2) are passed over."""
    while True:
        head, separator, data = data.partition(b"\r\n\r\n")
        line, *fields = head.decode("latin-1").split("\r\n")
        version, _, words = line.partition(" ")
        status = words[:3]
        if not separator or not version.startswith("HTTP/") or not status.isdecimal():
            return None, b""
        if not 100 <= int(status) < 200 or int(status) == SWITCHING:
            break
    headers = tuple(_field(field) for field in fields)
    body, rest = _answer_body(dict(headers), int(status), method, data, ended=ended)
    return (None if body is None else Answer(int(status), headers, body)), rest


def _answer_body(
    headers: dict[str, str], status: int, method: str, data: bytes, *, ended: bool
) -> tuple[bytes | None, bytes]:
    """The body (RFC 9112 section 6.3), None while it lacks something, and what follows."""
    if method == "HEAD" or status in {SWITCHING, 204, 304}:
        return b"", data
    if "chunked" in headers.get("transfer-encoding", "").lower():
        body, rest, done = _chunks(data)
        return (body if done else None), rest
    length = headers.get("content-length", "")
    if length.isdecimal():
        return (data[: int(length)] if len(data) >= int(length) else None), data[int(length) :]
    return (data if ended else None), b""


def _field(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name.lower(), value.strip()


def beyond(conversation: Conversation, requests: Sequence[Heard] | None = None) -> bytes:
    """What the app said that nothing which its proxy asked (``requests_in`` it) explains."""
    if requests is None:
        requests = requests_in(conversation.asked)
    methods = [heard.method for heard in requests]
    _answers, rest = answers_in(conversation.answered, methods, ended=conversation.ended)
    return rest
