"""Telling the enforcer's word from the app's: what is not surely Envoy's counts as the app's."""

import pytest

from watertight.attack.http import Answer, parse_answers
from watertight.attack.probe import Outcome
from watertight.dataplane.attacks.replies import AT_THE_EDGE, Nothing, Seen, attacked, used

DATE = ("date", "Mon, 23 Nov 2026 19:00:00 GMT")
RBAC = b"RBAC: access denied"
DENIED = Answer(403, (("content-length", "19"), ("content-type", "text/plain"), DATE), RBAC)
REJECTED = Answer(400, (("content-length", "0"), DATE))
UNREAD = Answer(400, (("connection", "close"), ("content-length", "11"), DATE), b"Bad Request")
ABSENT = Answer(503, (DATE,), b"upstream connect error or disconnect/reset before headers.")

BY_ENFORCER: tuple[Answer, ...] = (
    DENIED,
    REJECTED,
    UNREAD,
    Answer(429, (("retry-after", "1"),), b"local_rate_limited"),
    Answer(200, (("grpc-status", "7"), ("grpc-message", "RBAC: access denied"))),
    Answer(200, (("content-type", "application/grpc"), ("grpc-status", "13"))),
)
WORDLESS_AT_THE_EDGE: tuple[Answer, ...] = (
    Answer(404, (DATE,)),
    Answer(401, (("www-authenticate", "Bearer"), ("strict-transport-security", "x"))),
)
BY_APP: tuple[Answer, ...] = (
    *WORDLESS_AT_THE_EDGE,
    Answer(200, (DATE,), b"ok"),
    Answer(403, (DATE,), b"forbidden by the app"),
    Answer(403, (("server", "uvicorn"),)),
    Answer(404, (("x-powered-by", "Express"),)),
    Answer(400, (DATE,), b"Bad Request"),
    Answer(500, ()),
    Answer(429, (), b"slow down"),
    Answer(200, (("grpc-status", "7"), ("grpc-message", "not yours"))),
    Answer(200, (("grpc-status", "13"), ("grpc-message", "it broke"))),
    Answer(200, (), trailers=(("grpc-status", "0"),)),
)


@pytest.mark.parametrize("answer", BY_ENFORCER, ids=str)
def test_the_enforcer_s_own_words_are_refusals(answer: Answer) -> None:
    assert attacked(answer).outcome is Outcome.REFUSED


@pytest.mark.parametrize("answer", WORDLESS_AT_THE_EDGE, ids=str)
def test_a_wordless_no_is_the_gateway_s_only_at_the_gateway(answer: Answer) -> None:
    assert attacked(answer, AT_THE_EDGE).outcome is Outcome.REFUSED
    assert used(answer, AT_THE_EDGE).outcome is Outcome.REFUSED
    assert attacked(answer).outcome is Outcome.SERVED


def test_a_permitted_use_is_refused_only_in_so_many_words() -> None:
    assert used(DENIED).outcome is Outcome.REFUSED
    assert used(REJECTED).outcome is Outcome.SERVED


@pytest.mark.parametrize("answer", BY_APP, ids=str)
def test_an_app_that_answers_has_served_whatever_it_says(answer: Answer) -> None:
    assert attacked(answer).outcome is Outcome.SERVED
    assert used(answer).outcome is Outcome.SERVED


@pytest.mark.parametrize(
    ("seen", "attack", "use"),
    [
        (ABSENT, Outcome.NOT_RUN, Outcome.REFUSED),
        (Nothing("reset", closed=True), Outcome.REFUSED, Outcome.REFUSED),
        (Nothing("silence", closed=False), Outcome.NOT_RUN, Outcome.REFUSED),
    ],
    ids=str,
)
def test_an_absent_target_refuses_nothing(seen: Seen, attack: Outcome, use: Outcome) -> None:
    assert attacked(seen).outcome is attack
    assert used(seen).outcome is use


def test_no_body_gets_into_a_report() -> None:
    secret = Answer(200, (), b"the customer's password")
    assert "password" not in attacked(secret).detail


def test_answers_are_parsed_one_after_the_other() -> None:
    chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n6\r\n0\r\n\r\nx\r\n0\r\n\r\n"
    data = chunked + b"HTTP/1.1 204 No\r\n\r\n" + b"HTTP/1.1 403 No\r\ncontent-length: 2\r\n\r\nno"
    answers = parse_answers(data, ["GET"] * 3, ended=False)
    assert [(a.status, a.body) for a in answers] == [(200, b"0\r\n\r\nx"), (204, b""), (403, b"no")]
    assert len(parse_answers(data[:-1], ["GET"] * 3, ended=False)) == 2
    assert parse_answers(b"HTTP/1.1 200 OK\r\n\r\nall", ["GET"], ended=False) == ()
    assert parse_answers(b"HTTP/1.1 200 OK\r\n\r\nall", ["GET"], ended=True)[0].body == b"all"
    assert parse_answers(b"garbage", ["GET"], ended=True) == ()


def test_an_answer_that_goes_on_is_one_and_says_so() -> None:
    data = b"HTTP/1.1 204 No\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\ntick"
    answers = parse_answers(data, ["GET"] * 3, ended=False, unfinished=True)
    assert [(a.status, a.whole) for a in answers] == [(204, True), (200, False)]
    assert parse_answers(b"HTTP/1.1 200 OK\r\nx: ", ["GET"], ended=False, unfinished=True) == ()


def head(raw: bytes) -> Answer:
    return parse_answers(raw, ["HEAD"], ended=False)[0]


def test_to_head_the_enforcer_says_what_its_text_would_have_been() -> None:
    """Envoy announces its words and leaves them out; an app says more, or something else."""
    text = b"content-type: text/plain\r\ndate: today\r\n\r\n"
    denied = head(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 19\r\n" + text)
    assert attacked(denied).outcome is Outcome.REFUSED
    assert used(denied).outcome is Outcome.REFUSED
    rejected = head(b"HTTP/1.1 400 Bad Request\r\ntransfer-encoding: chunked\r\n\r\n")
    assert attacked(rejected).outcome is Outcome.REFUSED
    absent = head(b"HTTP/1.1 503 No\r\ncontent-length: 114\r\n" + text)
    assert attacked(absent).outcome is Outcome.NOT_RUN
    assert used(absent).outcome is Outcome.REFUSED
    for said in (
        b"HTTP/1.1 403 Forbidden\r\ncontent-length: 20\r\n" + text,
        b"HTTP/1.1 403 Forbidden\r\nserver: app\r\ncontent-length: 19\r\n" + text,
        b"HTTP/1.1 404 No\r\ncontent-type: text/html\r\ncontent-length: 9\r\n\r\n",
    ):
        assert attacked(head(said), AT_THE_EDGE).outcome is Outcome.SERVED
