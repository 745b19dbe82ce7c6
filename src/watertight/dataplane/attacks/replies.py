"""Who spoke: the enforcer or the app? The whole proof rests on telling these apart.

Envoy's own replies are told by their words (RBAC's, the rate limiter's) or, where Envoy says
nothing, by their bareness: an empty body, none but the headers of HTTP itself, and a status that
Envoy gives where this was asked. In doubt it was the app: that makes an attack red, never green.
"""

from dataclasses import dataclass
from http import HTTPStatus

from watertight.attack.http import Answer
from watertight.attack.probe import Observation, not_run, refused, served

RBAC_DENIED = "RBAC: access denied"
BARE_HEADERS = frozenset({"date", "content-length", "connection", "content-type", "server"})
GATEWAY_HEADERS = frozenset(
    {
        "strict-transport-security",
        "x-content-type-options",
        "x-frame-options",
        "referrer-policy",
        "content-security-policy",
        "www-authenticate",
        "retry-after",
        "allow",
        "access-control-allow-credentials",
        "access-control-allow-origin",
        "access-control-expose-headers",
        "vary",
    }
)
"""What the gateway adds to every answer or to its own refusals."""
GATEWAY_WORDS = {429: "local_rate_limited", 401: "token refused"}
"""What the gateway's filters say with a body of their own."""
LATE_WORDS = ("upstream request timeout", "stream timeout")
"""What Envoy says of an app that did not answer in the time that is declared."""
ABSENT_WORDS = ("upstream connect error", "no healthy upstream", *LATE_WORDS)
GRPC_PERMISSION_DENIED = "7"
GRPC_UNAVAILABLE = "14"


@dataclass(frozen=True, slots=True)
class Nothing:
    """No answer at all; ``closed`` if the other side ended the connection, else it kept silent."""

    detail: str
    closed: bool
    arrived: bool | None = False
    """Whether the app was seen to have the request; None if nobody could look."""


Seen = Answer | Nothing


MALFORMED = frozenset({400, 408, 413, 431, 501})
"""What Envoy says, wordlessly, of a request that is none: a path that can be read in two ways, a
message without a certain end (501: an unknown transfer coding, RFC 9112 section 6.1)."""
AT_THE_EDGE = MALFORMED | {401, 403, 404, 405, 421}
"""What the gateway says, wordlessly, of requests that are not for it."""
NEVER: frozenset[int] = frozenset()


def refusal(answer: Answer, wordless: frozenset[int] = MALFORMED) -> str | None:
    """In which words the enforcer refused; None if the app answered (or the app was absent).

    ``wordless``: the statuses with which a bare answer is the enforcer's too.
    """
    if answer.status in {401, 403} and _says(answer, RBAC_DENIED):
        return f"{answer.status}, {RBAC_DENIED}"
    words = GATEWAY_WORDS.get(answer.status)
    if words and _says(answer, words):
        return f"{answer.status}, {words}"
    if (status := answer.header("grpc-status")) is not None:
        return _grpc_refusal(status, answer.header("grpc-message"), wordless)
    if answer.status in wordless and is_bare(answer):
        return f"{answer.status}, without a word of the app"
    return None


def _says(answer: Answer, words: str) -> bool:
    """Whether this is the enforcer's sentence; of a HEAD's answer we have its length alone."""
    return answer.text() == words or _text_unseen(answer) == len(words)


def _text_unseen(answer: Answer) -> int:
    """The length of the enforcer's text that HEAD had left out; 0 if there is none."""
    text = answer.header("content-type") == "text/plain" and not answer.body
    return _announced(answer) if text and _has_bare_headers(answer) else 0


def _grpc_refusal(status: str, message: str | None, wordless: frozenset[int]) -> str | None:
    if (status, message) == (GRPC_PERMISSION_DENIED, RBAC_DENIED):
        return f"grpc-status 7, {RBAC_DENIED}"
    # Envoy turns its own 400 into 13; no gRPC library says INTERNAL without a message.
    silent = (status, message or "") == ("13", "")
    return "grpc-status 13, without a message" if silent and 400 in wordless else None


def is_bare(answer: Answer) -> bool:
    """Whether nothing in the answer needs an app to have said it.

    Where Envoy cannot even read a message it says the status's own phrase, and closes: a
    ``connection: close`` of the app's would not come through an HTTP proxy (RFC 9110, 7.6.1).
    """
    phrase = HTTPStatus(answer.status).phrase
    closes = answer.header("connection") == "close"
    wordless = not (answer.body or _announced(answer)) or (closes and _says(answer, phrase))
    return wordless and _has_bare_headers(answer)


def _announced(answer: Answer) -> int:
    """How long the body is, or would be if HEAD had not asked to leave it out."""
    length = answer.header("content-length") or ""
    return int(length) if length.isascii() and length.isdigit() else 0


def _has_bare_headers(answer: Answer) -> bool:
    names = {name for name, _value in answer.headers}
    by_app = (answer.header("server") or "envoy") != "envoy"
    typed = answer.header("content-type") not in {None, "text/plain"}
    return not by_app and not typed and names <= BARE_HEADERS | GATEWAY_HEADERS


def app_is_absent(answer: Answer) -> bool:
    """Whether the enforcer let the request through and found nobody behind it."""
    if answer.header("grpc-status") == GRPC_UNAVAILABLE:
        return (answer.header("grpc-message") or "").startswith(ABSENT_WORDS)
    if answer.status not in {502, 503, 504}:
        return False
    return answer.text().startswith(ABSENT_WORDS) or _text_unseen(answer) > 0


def is_late(seen: Seen) -> bool:
    """Whether no answer came, though perhaps somebody has the request."""
    if isinstance(seen, Nothing):
        return not seen.closed
    words = seen.header("grpc-message") or seen.text()
    return app_is_absent(seen) and words.startswith(LATE_WORDS)


def attacked(seen: Seen, wordless: frozenset[int] = MALFORMED) -> Observation:
    """What an attack by one request came to."""
    if isinstance(seen, Nothing):
        return refused(seen.detail) if seen.closed else not_run(seen.detail)
    if words := refusal(seen, wordless):
        return refused(words)
    if app_is_absent(seen):
        return not_run(f"let through, but the app is absent: {seen.status} {seen.text()}")
    return served(describe(seen))


def used(seen: Seen, wordless: frozenset[int] = NEVER) -> Observation:
    """What a permitted use came to: an app's own 404 or 422 is a service, a refusal is not."""
    if isinstance(seen, Nothing):
        if seen.arrived is None:
            return not_run(seen.detail)
        return served(seen.detail) if seen.arrived else refused(seen.detail)
    if words := refusal(seen, wordless):
        return refused(words)
    if app_is_absent(seen):
        return refused(f"{seen.status} {seen.text()}")
    return served(describe(seen))


def describe(answer: Answer) -> str:
    """An answer in a few words: never its body, which may hold what is nobody's business."""
    grpc = answer.header("grpc-status")
    return f"answered {answer.status}" + (f", grpc-status {grpc}" if grpc else "")
