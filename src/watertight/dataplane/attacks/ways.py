"""What an attacker reads off the declaration: the ways in, and what each one carries."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from watertight.model.system import (
    GATEWAY,
    Grant,
    HTTPGrant,
    Listen,
    Protocol,
    RPCGrant,
    System,
)

METHODS = ("GET", "POST", "PUT", "DELETE", "PATCH")
SEGMENT = "watertight-probe"
_ENDLESS = frozenset(
    {
        *("events", "sse", "stream", "streams", "streaming", "ws", "websocket", "websockets"),
        *("subscribe", "subscriptions", "watch", "listen", "socket", "live", "tail", "follow"),
        *("poll", "longpoll", "notifications", "updates", "feed", "logs"),
    }
)
_WORD = re.compile(r"[a-z]+")
FORBIDDEN = "watertight-forbidden"
"""A path segment that no grant names."""
ONLY_SLASHES = ("//", "/.//", "/\\", f"/{FORBIDDEN}/..//", f"//?{FORBIDDEN}")
"""What many programs read as ``/``, and what proxies that merge slashes may leave as it is."""
_NAMED = re.compile(r"\{[^{}]*\}")
_NOTHING = re.compile(r"(?:(?:;|%3[bB]).*)?", re.DOTALL)
"""A segment without a name: empty, or parameters only (ADR 29)."""


@dataclass(frozen=True, slots=True)
class Way:
    """One declared ordered pair: who may come in where, and for what."""

    caller: str
    callee: str
    listens: Listen
    grants: tuple[Grant, ...]

    @property
    def channel(self) -> str:
        """How the pair is called in reports."""
        return f"{self.caller} -> {self.callee}"

    @property
    def authority(self) -> str:
        """Host and port as the caller's app names them."""
        return f"{self.callee}:{self.listens.port}"

    @property
    def from_service(self) -> bool:
        """Whether the caller has a sandbox to attack from (the gateway has none)."""
        return self.caller != GATEWAY

    @property
    def http_grants(self) -> tuple[HTTPGrant, ...]:
        """The grants in terms of HTTP; an RPC is a POST to ``/service/method``."""
        return tuple(
            HTTPGrant("POST", f"/{g.service}/{g.method}") if isinstance(g, RPCGrant) else g
            for g in self.grants
        )

    @property
    def speaks_http(self) -> bool:
        """Whether the callee's enforcer can see requests on this way."""
        return self.listens.protocol is not Protocol.TCP


def ways(system: System) -> Iterator[Way]:
    """Every declared way between workloads, the gateway's included."""
    for channel in system.channels:
        callee = system.services.get(channel.target)
        if callee is not None and callee.listens is not None:
            yield Way(channel.source, channel.target, callee.listens, channel.grants)
    for name, callee in system.services.items():
        if callee.listens is not None and (routes := system.routes_to(name)):
            granted = {HTTPGrant(m, r.target_path) for r in routes for m in r.methods}
            yield Way(GATEWAY, name, callee.listens, tuple(sorted(granted)))


def sealed_pairs(system: System) -> Iterator[tuple[str, str, Listen]]:
    """Every ordered pair that was not declared, whose target listens at all."""
    declared = {(way.caller, way.callee) for way in ways(system)}
    for caller in system.callers():
        for callee, service in system.services.items():
            if service.listens and caller != callee and (caller, callee) not in declared:
                yield caller, callee, service.listens


def fill(template: str) -> str:
    """A path that a template covers."""
    segments = []
    for segment in template.split("/"):
        if segment == "**":
            segments += [SEGMENT, SEGMENT]
        else:
            segments.append(SEGMENT if segment == "*" else _NAMED.sub(SEGMENT, segment))
    return "/".join(segments)


def may_go_on(path: str) -> bool:
    """Whether its answer may be a stream without an end, by its name."""
    return any(word in _ENDLESS for word in _WORD.findall(path.lower()))


def covers(template: str, path: str) -> bool:
    """Whether a path template covers a plain path. (Written anew: no code of the defender's.)"""
    pattern, segments = template.split("/"), path.split("/")
    if pattern[-1] == "**":
        head = pattern[:-1]
        rest = segments[len(head) :]
        return _fit(head, segments[: len(head)]) and not all(map(_NOTHING.fullmatch, rest))
    return _fit(pattern, segments)


def _fit(pattern: list[str], segments: list[str]) -> bool:
    return len(pattern) == len(segments) and all(map(_fits, pattern, segments))


def _fits(pattern: str, segment: str) -> bool:
    nothing = _NOTHING.fullmatch(segment) is not None
    if pattern == "":
        return nothing
    if pattern == "*" or _NAMED.fullmatch(pattern):
        return not nothing
    literals = [re.escape(literal) for literal in _NAMED.split(pattern)]
    return re.fullmatch(".+".join(literals), segment) is not None


def granted(way: Way, method: str, path: str) -> bool:
    """Whether any grant of the way allows this request."""
    return any(g.method == method and covers(g.path, path) for g in way.http_grants)


def ungranted_paths(way: Way, method: str) -> Iterator[str]:
    """Paths near the granted ones, and one far away, that no grant allows with ``method``."""
    tried = [f"/{FORBIDDEN}"]
    for grant in way.http_grants:
        path = fill(grant.path).rstrip("/")
        tried += [f"{path}/{FORBIDDEN}", path.rpartition("/")[0] or "/"]
    for path in dict.fromkeys(tried):
        if not granted(way, method, path):
            yield path


def ungranted_methods(way: Way, path: str) -> Iterator[str]:
    """Methods that no grant allows on ``path``."""
    return (method for method in METHODS if not granted(way, method, path))
