"""What a witness makes of frames: streams, their trailers and answers, from any frame on."""

from hpack import Encoder

from watertight.attack.overheard_streams import (
    UNKNOWN,
    HeardStream,
    holds_frames,
    streams_in,
)
from watertight.attack.raw_frames import (
    CONTINUATION,
    END_HEADERS,
    HEADERS,
    PADDED,
    PREFACE,
    block,
    data,
    frame,
    headers,
    reset,
    settings,
)
from watertight.attack.witness import Conversation

TOKEN = "wt0123456789ab"
ASKED = ((":method", "POST"), (":path", "/a.B/C"), ("probe-mark", f"{TOKEN}v1."))
OTHERS = ((":method", "POST"), (":path", "/a.B/C"), ("x-user", "somebody"))


def heard(asked: bytes, answered: bytes = b"") -> list[HeardStream]:
    conversation = Conversation(asked, answered, len(answered), whole=True, ended=False)
    return streams_in(conversation, TOKEN)


def test_only_streams_with_the_token_are_read_and_each_with_its_answer() -> None:
    asked = PREFACE + settings({}) + headers(1, OTHERS, end=True) + headers(3, ASKED)
    asked += headers(5, ASKED) + data(3, b"ab", end=False) + data(5, b"x") + data(3, b"cd")
    answered = headers(3, ((":status", "103"),)) + headers(3, ((":status", "200"),))
    answered += data(3, b"yes", end=False) + headers(3, (("grpc-status", "0"),), end=True)
    answered += reset(5)
    three, five = heard(asked, answered)
    assert (bytes(three.asked.body), three.asked.ended) == (b"abcd", True)
    assert three.answered.fields == ((":status", "200"),)
    assert bytes(three.answered.body) == b"yes"
    assert three.answered.trailers == (("grpc-status", "0"),)
    assert (bytes(five.asked.body), five.answered.reset) == (b"x", True)


def test_the_token_is_found_in_huffman_code_padding_and_continuations() -> None:
    coded = Encoder().encode(list(ASKED))
    assert TOKEN.encode() not in coded
    first = frame(HEADERS, 1, b"\x03" + coded[:40] + b"\0\0\0", PADDED)
    asked = first + frame(CONTINUATION, 1, coded[40:], END_HEADERS)
    (found,) = heard(asked)
    assert found.header("probe-mark") == (f"{TOKEN}v1.",)


def test_trailers_and_a_second_block_are_told_from_the_first() -> None:
    asked = headers(1, ASKED) + headers(1, (("x-late", "1"),), end=True)
    (found,) = heard(asked)
    assert (found.asked.fields, found.asked.trailers) == (ASKED, (("x-late", "1"),))


def test_what_is_no_frame_ends_the_reading_and_breaks_nothing() -> None:
    assert len(heard(headers(1, ASKED) + b"\xff" * 40)) == 1
    assert heard(b"GET / HTTP/1.1\r\n\r\n") == []
    assert heard(frame(HEADERS, 1, b"\xff\xff" + TOKEN.encode(), END_HEADERS)) == []


def test_what_was_said_before_the_witness_came_is_unknown_and_what_is_new_is_read() -> None:
    encoder = Encoder()
    encoder.encode([("x-forwarded-client-cert", "URI=spiffe://a/b"), ("probe-mark", "c")])
    later = [(":method", "POST"), ("x-forwarded-client-cert", "URI=spiffe://a/b")]
    blocks = [encoder.encode([*later, ("probe-mark", f"{TOKEN}v{n}.")]) for n in range(2)]
    blocks.append(encoder.encode([*later, ("probe-mark", f"{TOKEN}v1.")]))
    asked = b"".join(frame(HEADERS, 2 * n + 1, b, END_HEADERS) for n, b in enumerate(blocks))
    streams = heard(asked)
    assert [s.value(TOKEN) for s in streams] == [f"{TOKEN}v{n}." for n in (0, 1, 1)]
    assert all(s.is_partial and s.asked.fields[1] == UNKNOWN for s in streams)


def test_a_packet_of_whole_frames_is_told_from_the_middle_of_one() -> None:
    whole = PREFACE + settings({}) + headers(1, ASKED)
    assert holds_frames(whole)
    assert holds_frames(headers(1, ASKED))
    assert not holds_frames(whole[:-1])
    assert not holds_frames(whole[30:])
    assert not holds_frames(b"")
    assert block(ASKED) in whole
