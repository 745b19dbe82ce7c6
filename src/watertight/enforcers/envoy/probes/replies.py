"""Who spoke: the enforcer or the app? The whole proof rests on telling these apart.

Envoy's own replies are told by their words (RBAC's, jwt_authn's, the rate limiter's) or, where
Envoy says nothing, by their bareness: an empty body and none but the headers of HTTP itself.
What is not surely Envoy's counts as the app's: a doubt makes a probe red, never green.
"""

from dataclasses import dataclass
from http import HTTPStatus

from watertight.enforcers.attack.http import Answer
from watertight.enforcers.contract import Observation, not_run, refused, served

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
    }
)
"""What the gateway adds to every answer or to its own refusals."""
GATEWAY_WORDS = {429: "local_rate_limited", 401: "token issued in the future"}
"""What the gateway's filters say with a body of their own."""
ABSENT_WORDS = (
    "upstream connect error",
    "no healthy upstream",
    "upstream request timeout",
    "stream timeout",
)
GRPC_PERMISSION_DENIED = "7"


@dataclass(frozen=True, slots=True)
class Nothing:
    """No answer at all; ``closed`` if the other side ended the connection, else it kept silent."""

    detail: str
    closed: bool


Seen = Answer | Nothing


def refusal(answer: Answer) -> str | None:
    """In which words the enforcer refused; None if the app answered (or the app was absent)."""
    if answer.status == HTTPStatus.FORBIDDEN and answer.text() == RBAC_DENIED:
        return f"403, {RBAC_DENIED}"
    if answer.text() == GATEWAY_WORDS.get(answer.status):
        return f"{answer.status}, {answer.text()}"
    if (status := answer.header("grpc-status")) is not None:
        return _grpc_refusal(status, answer.header("grpc-message"))
    if (400 <= answer.status < 500 or answer.status == 501) and is_bare(answer):
        return f"{answer.status}, without a word of the app"
    return None


def _grpc_refusal(status: str, message: str | None) -> str | None:
    if (status, message) == (GRPC_PERMISSION_DENIED, RBAC_DENIED):
        return f"grpc-status 7, {RBAC_DENIED}"
    # Envoy turns its own 400 into 13; no gRPC library says INTERNAL without a message.
    return "grpc-status 13, without a message" if (status, message or "") == ("13", "") else None


def is_bare(answer: Answer) -> bool:
    """Whether nothing in the answer needs an app to have said it.

    Where Envoy cannot even read a message it says the status's own phrase, and closes: a
    ``connection: close`` of the app's would not come through an HTTP proxy (RFC 9110, 7.6.1).
    """
    names = {name for name, _value in answer.headers}
    by_app = (answer.header("server") or "envoy") != "envoy"
    closes = answer.header("connection") == "close"
    wordless = not answer.body or (closes and answer.text() == HTTPStatus(answer.status).phrase)
    return wordless and not by_app and names <= BARE_HEADERS | GATEWAY_HEADERS


def app_is_absent(answer: Answer) -> bool:
    """Whether the enforcer let the request through and found nobody behind it."""
    return answer.status in {502, 503, 504} and answer.text().startswith(ABSENT_WORDS)


def attacked(seen: Seen) -> Observation:
    """What an attack by one request came to."""
    if isinstance(seen, Nothing):
        return refused(seen.detail) if seen.closed else not_run(seen.detail)
    if words := refusal(seen):
        return refused(words)
    if app_is_absent(seen):
        return not_run(f"let through, but the app is absent: {seen.status} {seen.text()}")
    return served(describe(seen))


def used(seen: Seen) -> Observation:
    """What a permitted use came to: an app's own 404 or 422 is a service, a refusal is not."""
    if isinstance(seen, Nothing):
        return refused(seen.detail)
    if words := refusal(seen):
        return refused(words)
    if app_is_absent(seen):
        return refused(f"{seen.status} {seen.text()}")
    return served(describe(seen))


def describe(answer: Answer) -> str:
    """An answer in a few words: never its body, which may hold what is nobody's business."""
    grpc = answer.header("grpc-status")
    return f"answered {answer.status}" + (f", grpc-status {grpc}" if grpc else "")
