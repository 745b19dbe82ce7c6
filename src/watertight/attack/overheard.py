"""HTTP/1.1 as a witness overheard it: which requests an app was sent, and which answers it gave.

A proxy that is in order sends one request at a time, each with one length that nobody can mistake
(RFC 9112 section 6.3). So an answer that no request was sent for tells that the app took for a
request what its proxy took for something else.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from watertight.attack.http import Answer
from watertight.attack.witness import Conversation

MOST_MESSAGES = 1_000
SWITCHING = 101
HEAD_END = b"\r\n\r\n"
FRAMING = re.compile(
    rb"\r\n(content-length|transfer-encoding|upgrade):(.*?)(?=\r\n|\Z)", re.IGNORECASE | re.DOTALL
)
"""The fields on which the end of a message hangs."""
OF_CONNECTIONS = frozenset({"", "close", "keep-alive", "upgrade"})
"""What ``Connection`` says of the connection itself, and not of other fields."""
HEXADECIMAL = re.compile(rb"[0-9a-fA-F]+")


@dataclass(frozen=True)
class Heard:
    """One request as it reached an app."""

    method: str
    target: str
    head: bytes
    """Without the empty line at its end."""
    body: bytes

    @cached_property
    def headers(self) -> tuple[tuple[str, str], ...]:
        """All fields in order, names in lower case. Read when asked for: most are never."""
        return _fields(self.head)

    def header(self, name: str) -> str:
        """All values of that lower-case name, joined."""
        return ", ".join(value for key, value in self.headers if key == name)

    @property
    def hop_by_hop(self) -> set[str]:
        """What its ``Connection`` has whoever obeys it take away (RFC 9110 section 7.6.1)."""
        named = {name.strip().lower() for name in self.header("connection").split(",")}
        return named - OF_CONNECTIONS

    def holds(self, mark: bytes) -> bool:
        """Whether it stands anywhere in the request."""
        return mark in self.head or mark in self.body


def requests_in(data: bytes) -> tuple[Heard, ...]:
    """The requests in what a proxy sent, in order; the last one may lack some of its body."""
    found: list[Heard] = []
    at = 0
    while at < len(data) and len(found) < MOST_MESSAGES:
        end = data.find(HEAD_END, at)
        if end < 0:
            break
        head = data[at:end]
        words = head.partition(b"\r\n")[0].decode("latin-1").split(" ")
        if len(words) < 2:
            break
        framing = _framing(head)
        body, at, _done = _body(framing, data, end + len(HEAD_END), default=b"0")
        found.append(Heard(words[0], words[1], head, body))
        if framing.get(b"upgrade"):
            break  # what follows may be another protocol
    return tuple(found)


def _framing(head: bytes) -> dict[bytes, bytes]:
    return {name.lower(): value.strip() for name, value in FRAMING.findall(head)}


def _body(
    framing: dict[bytes, bytes], data: bytes, at: int, *, default: bytes
) -> tuple[bytes, int, bool]:
    """The body so far, where the next message begins, and whether the body's end was there.

    ``default``: the length where none is told.
    """
    if b"chunked" in framing.get(b"transfer-encoding", b"").lower():
        return _chunks(data, at)
    length = framing.get(b"content-length", default)
    size = int(length) if length.isdigit() else 0
    return data[at : at + size], at + size, len(data) >= at + size


def _chunks(data: bytes, at: int) -> tuple[bytes, int, bool]:
    body: list[bytes] = []
    while True:
        line = data.find(b"\r\n", at)
        size = data[at:line].split(b";")[0].strip() if line >= 0 else b""
        if not HEXADECIMAL.fullmatch(size):
            return b"".join(body), len(data), False
        at = line + 2
        if (length := int(size, 16)) == 0:
            break
        body.append(data[at : at + length])
        at += length + 2
    if data.startswith(b"\r\n", at):
        return b"".join(body), at + 2, True
    end = data.find(HEAD_END, at)  # of the trailers
    return b"".join(body), len(data) if end < 0 else end + len(HEAD_END), end >= 0


def answers_in(data: bytes, methods: Sequence[str], *, ended: bool) -> tuple[list[Answer], bytes]:
    """The app's answers to requests of these methods, and what it said beyond the last of them.

    Read here and not by ``http.client``: a proof reads so many that it would cost seconds.
    """
    answers: list[Answer] = []
    at = 0
    for method in methods:
        found = _answer(data, at, method, ended=ended)
        if found is None:
            return answers, b""  # not finished: nothing can be said of what follows
        status, head, body, at = found
        answers.append(Answer(status, _fields(head), body))
        if status == SWITCHING:
            return answers, b""
    return answers, data[at:]


def _answer(
    data: bytes, at: int, method: str, *, ended: bool
) -> tuple[int, bytes, bytes, int] | None:
    """The next final answer: its status, head and body, and where the next one begins.

    Interim ones (RFC 9110 section 15.2) are passed over. None if it is not all there.
    """
    while True:
        end = data.find(HEAD_END, at)
        if end < 0:
            return None
        head = data[at:end]
        version, _, words = head.partition(b"\r\n")[0].partition(b" ")
        at = end + len(HEAD_END)
        if not version.startswith(b"HTTP/") or not words[:3].isdigit():
            return None
        status = int(words[:3])
        if not 100 <= status < 200 or status == SWITCHING:
            break
    if method == "HEAD" or status in {SWITCHING, 204, 304}:
        return status, head, b"", at
    framing = _framing(head)
    chunked = b"chunked" in framing.get(b"transfer-encoding", b"").lower()
    if not chunked and not framing.get(b"content-length", b"").isdigit():
        return (status, head, data[at:], len(data)) if ended else None
    body, at, done = _body(framing, data, at, default=b"")
    return (status, head, body, at) if done else None


def _fields(head: bytes) -> tuple[tuple[str, str], ...]:
    """The fields behind a message's first line."""
    return tuple(_field(line) for line in head.decode("latin-1").split("\r\n")[1:])


def _field(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name.lower(), value.strip()


def beyond(conversation: Conversation, requests: Sequence[Heard] | None = None) -> bytes:
    """What the app said that nothing which its proxy asked (``requests_in`` it) explains."""
    if requests is None:
        requests = requests_in(conversation.asked)
    data, at = conversation.answered, 0
    for heard in requests:
        found = _answer(data, at, heard.method, ended=conversation.ended)
        if found is None or found[0] == SWITCHING:
            return b""  # not finished, or another protocol: nothing can be said of what follows
        at = found[3]
    return data[at:]
