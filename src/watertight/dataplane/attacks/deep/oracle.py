"""What may arrive, by the grants alone: every reading of a path that an app might make of it.

An app may decode a path once or twice, drop parameters, take a backslash for a slash, cut at a
NUL. If any of these readings is not granted, the request must not have arrived.
"""

from collections.abc import Iterator, Sequence
from urllib.parse import unquote

from watertight.attack.overheard import Heard, beyond, requests_in
from watertight.attack.witness import Conversation
from watertight.dataplane.attacks.desync.shapes import FORGED, TOLD
from watertight.dataplane.attacks.ways import covers
from watertight.model.system import HTTPGrant

IDLE_TIMEOUT = b"HTTP/1.1 408"


def readings(target: str) -> set[str]:
    """The paths that an app may read in the target of a request that reached it."""
    path = target.partition("?")[0].partition("#")[0]
    found = {path}
    for step in (_decoded, _unescaped, _cut, _without_parameters, _resolved):
        found |= {step(known) for known in found}
    return {_resolved(known) for known in found} | found


def _decoded(path: str) -> str:
    return unquote(path, "latin-1")


def _unescaped(path: str) -> str:
    return path.replace("\\", "/")


def _cut(path: str) -> str:
    return path.partition("\0")[0]


def _without_parameters(path: str) -> str:
    return "/".join(segment.partition(";")[0] for segment in path.split("/"))


def _resolved(path: str) -> str:
    """Dot segments taken out (RFC 3986 section 5.2.4), and slashes that follow one another."""
    kept: list[str] = []
    segments = path.split("/")[1:]
    for at, segment in enumerate(segments):
        last = at == len(segments) - 1
        if segment == "..":
            del kept[-1:]
        elif segment not in {".", ""}:
            kept.append(segment)
        if last and segment in {".", "..", ""}:
            kept.append("")
    return "/" + "/".join(kept)


def may_arrive(grants: Sequence[HTTPGrant], method: str, target: str) -> bool:
    """Whether the grants allow the request however the app reads its path."""
    return all(
        any(grant.method == method and covers(grant.path, path) for grant in grants)
        for path in readings(target)
    )


def arrived(conversations: Sequence[Conversation], token: str) -> int:
    """How many requests with ``token`` in their head reached an app."""
    heard = (h for seen in conversations for h in requests_in(seen.asked))
    return sum(any(token in value for _, value in h.headers) for h in heard)


def complaints(
    grants: Sequence[HTTPGrant], conversations: Sequence[Conversation], token: str
) -> Iterator[str]:
    """What reached an app and may not have, with ``token`` in it."""
    for conversation in conversations:
        extra = beyond(conversation).strip()
        if extra and not extra.startswith(IDLE_TIMEOUT):
            yield f"the app answered what no proxy asked: {extra[:40]!r}"
        for heard in requests_in(conversation.asked):
            if any(token in value for _, value in heard.headers):
                yield from _complaints(grants, heard)


def _complaints(grants: Sequence[HTTPGrant], heard: Heard) -> Iterator[str]:
    if not may_arrive(grants, heard.method, heard.target):
        yield f"{heard.method} {heard.target} reached the app"
    for name, value in heard.headers:
        if name in TOLD and FORGED in value:
            yield f"{name} reached the app as the attacker wrote it"
    if sum(name == "host" for name, _ in heard.headers) > 1:
        yield "two Host headers reached the app"
