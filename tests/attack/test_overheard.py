"""What a witness overheard is read right: an answer too many is found, and nothing else is one."""

import pytest

from watertight.attack.overheard import answers_in, beyond, requests_in
from watertight.attack.witness import Conversation

GET = b"GET /a HTTP/1.1\r\nhost: b\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
NOT_FOUND = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"
CHUNKED = (
    b"POST /a HTTP/1.1\r\nhost: b\r\ntransfer-encoding: chunked\r\n\r\n"
    b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n"
)
SIZED = b"POST /a HTTP/1.1\r\nhost: b\r\ncontent-length: 5\r\n\r\nabcde"


def conversation(asked: bytes, answered: bytes, *, ended: bool = False) -> Conversation:
    return Conversation(asked, answered, len(answered), whole=True, ended=ended)


@pytest.mark.parametrize("asked", [CHUNKED, SIZED, CHUNKED.replace(b"0\r\n", b"0\r\nt: u\r\n")])
def test_bodies_end_where_they_say(asked: bytes) -> None:
    first, second = requests_in(asked + GET)
    assert (first.method, first.target, first.body) == ("POST", "/a", b"abcde")
    assert (second.method, second.header("host")) == ("GET", "b")


@pytest.mark.parametrize(
    "answered",
    [
        OK + OK,
        b"HTTP/1.1 100 Continue\r\n\r\n" + OK + OK,
        b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + OK + OK,
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n" + OK,
        OK + b"HTTP/1.1 200 OK\r\n",  # the second one is still on its way
    ],
)
def test_as_many_answers_as_requests_are_in_order(answered: bytes) -> None:
    assert beyond(conversation(GET + CHUNKED, answered)) == b""


@pytest.mark.parametrize(
    "more", [NOT_FOUND, b"HTTP/1.1 400", b"<html>an answer of HTTP/0.9</html>"]
)
def test_an_answer_that_nobody_asked_for_is_found(more: bytes) -> None:
    assert beyond(conversation(SIZED, OK + more)) == more
    assert beyond(conversation(GET + SIZED, OK + OK + more)) == more


def test_an_answer_without_a_length_ends_with_the_connection() -> None:
    answered = b"HTTP/1.0 200 OK\r\n\r\nall of this"
    answers, rest = answers_in(answered, ["GET"], ended=False)
    assert (answers, rest) == ([], b"")
    (answer,), rest = answers_in(answered, ["GET"], ended=True)
    assert (answer.body, rest) == (b"all of this", b"")


def test_a_head_request_has_no_body_to_wait_for() -> None:
    head = GET.replace(b"GET", b"HEAD")
    asked = conversation(head, b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n")
    assert beyond(asked) == b""
