"""The gateway's routes: one declared host, declared paths and methods, and a 4xx for the rest."""

import re
from collections.abc import Callable, Iterator, Mapping

from watertight.dataplane.compile import (
    challenges,
    cors,
    forwarding,
    limits,
    outbound,
    path_matchers,
    rbac,
    retries,
    shares,
    tokens,
    upgrades,
)
from watertight.dataplane.compile.blocks import Json, seconds
from watertight.dataplane.compile.headers import FRAMING_HEADER, UNSEEN_HEADER
from watertight.dataplane.compile.http import AMBIGUOUS_PATH, NO_HOST
from watertight.dataplane.compile.refusal import NotCompilable
from watertight.model.rewrites import steps
from watertight.model.spellings import Guards, spelling
from watertight.model.system import Gateway, HTTPGrant, Listen, Protocol, Route, System
from watertight.model.templates import wildcard_texts

ROUTES = "https"
IDLE_REQUEST_SECONDS = 3600.0
"""A quiet WebSocket, a long poll, an upload that stalls: until the SVID that carries it ends."""
SHORTEST_PAUSE_SECONDS = 60.0
"""A client's line may stall for longer than a service may think."""

CHUNKED_HTTP_1_0: Json = {
    "prefix": "/",
    "headers": [
        {"name": FRAMING_HEADER, "string_match": {"safe_regex": {"regex": r"HTTP/1\.0 [^-].*"}}}
    ],
}
"""Matches what RFC 9112 section 6.1 calls faulty framing: HTTP/1.0 has no transfer codings, and a
proxy before us that speaks it may see the end of such a request elsewhere than we do."""

SAFETY_HEADERS: Mapping[str, tuple[str, str]] = {
    "strict-transport-security": ("max-age=31536000", "OVERWRITE_IF_EXISTS_OR_ADD"),
    "x-content-type-options": ("nosniff", "OVERWRITE_IF_EXISTS_OR_ADD"),
    "x-frame-options": ("SAMEORIGIN", "ADD_IF_ABSENT"),
    "referrer-policy": ("strict-origin-when-cross-origin", "ADD_IF_ABSENT"),
    "content-security-policy": (
        "frame-ancestors 'self'; base-uri 'self'; object-src 'none'",
        "ADD_IF_ABSENT",
    ),
}
"""Only what does not break an app that never thought of it; where the app says something itself
about framing, referrers or content, it is right. No ``includeSubDomains``: other hosts are not
ours to bind."""

NOT_AN_APPS_HEADERS = ("alt-svc", "nel")
"""What binds browsers for the whole host, for months, and is about the connection, which is ours:
where else the host is found (RFC 7838), and who is told of everybody's requests (W3C, Network Error
Logging)."""
SHARED_ORIGIN_HEADERS = ("service-worker-allowed",)
"""Where several services share the origin: one would serve the others' pages from then on."""

TALKATIVE_HEADERS = (
    *("server", "x-powered-by", "x-envoy-upstream-service-time"),
    UNSEEN_HEADER,
)
"""What tells an attacker which exploit to look up, or how long which question takes inside."""


def route_configuration(system: System, gateway: Gateway) -> Json:
    """All of the gateway's routes, in declared order: the first that fits is taken."""
    return {
        "name": ROUTES,
        "ignore_port_in_host_matching": True,
        "request_headers_to_add": forwarding.headers(),
        "request_headers_to_remove": [FRAMING_HEADER],
        "virtual_hosts": [
            {
                "name": "declared",
                "domains": [gateway.hostname],
                "routes": [
                    _refusal(NO_HOST, 400),
                    _refusal(CHUNKED_HTTP_1_0, 400),
                    _refusal(AMBIGUOUS_PATH, 400),
                    *_never(gateway),
                    *_declared(system, gateway),
                    *_slashes_that_no_route_takes(gateway),
                    *_wrong_methods(gateway),
                    _refusal({"prefix": "/"}, 404),
                ],
            },
            {
                "name": "misdirected",
                "domains": ["*"],
                "routes": [_refusal(NO_HOST, 400), _refusal({"prefix": "/"}, 421)],
            },
        ],
        "response_headers_to_add": [
            {"header": {"key": key, "value": value}, "append_action": action}
            for key, (value, action) in SAFETY_HEADERS.items()
        ],
        "response_headers_to_remove": [*TALKATIVE_HEADERS, *_not_theirs(gateway)],
    }


def _declared(system: System, gateway: Gateway) -> Iterator[Json]:
    guards, number = Guards(gateway.routes), 0
    for route, in_force in gateway.in_order():
        if not in_force:
            yield from _withheld(route)
            continue
        yield from _spelt_like(gateway, guards, number)
        yield from _nothing_left(gateway, route)
        yield from _steps(gateway, route)
        yield from _routes(system, gateway, number, route)
        number += 1


def _withheld(route: Route) -> Iterator[Json]:
    """What led to a revoked service is not found, whoever else would take it."""
    methods = [_methods(route.methods)]
    for headers in (methods, _preflight_headers(route)) if route.cors else (methods,):
        yield _refusal({**_match(route), "headers": headers}, 404)


def _not_theirs(gateway: Gateway) -> tuple[str, ...]:
    shared = len({route.target for route in gateway.routes}) > 1
    return (*NOT_AN_APPS_HEADERS, *(SHARED_ORIGIN_HEADERS if shared else ()))


def _routes(system: System, gateway: Gateway, number: int, route: Route) -> Iterator[Json]:
    """One for preflights, and two for what speaks HTTP: a WebSocket has connections of its own
    (:mod:`.inbound`), and may be quiet for longer than a request may pause."""
    if route.cors:
        yield _preflight(gateway, number, route)
    one = _route(system, gateway, number, route)
    if listens(system, route).protocol is Protocol.HTTP:
        upgrade = {"name": "upgrade", "string_match": {"exact": "websocket", "ignore_case": True}}
        yield {
            **one,
            "name": f"{one['name']} websocket",
            "match": {**one["match"], "headers": [*one["match"]["headers"], upgrade]},
            "route": {**one["route"], "cluster": outbound.upgrades(route.target)},
            "request_headers_to_add": [*one.get("request_headers_to_add", ()), upgrades.alone()],
        }
    yield {**one, "route": {**one["route"], "idle_timeout": seconds(_pause_seconds(route))}}


def _preflight(gateway: Gateway, number: int, route: Route) -> Json:
    """The browser's question, which the filter for CORS answers; what it leaves goes no further.

    No direct response: of its route that filter learns nothing.
    """
    asks = _preflight_headers(route)
    return {
        "name": f"route {number} preflight",
        "match": {**_match(route), "headers": [*asks, *_without_slashes(gateway, route)]},
        "route": {"cluster": outbound.name(route.target)},
        **cors.answers(route.cors),
        "typed_per_filter_config": {
            **rbac.policies({}),
            **tokens.per_route(None),
            **cors.per_route(route.cors, route.methods),
        },
    }


def _preflight_headers(route: Route) -> list[Json]:
    return [
        _header(":method", "OPTIONS"),
        {"name": cors.PREFLIGHT[0], "present_match": True},
        _header(cors.PREFLIGHT[1], _any_of(route.methods)),
    ]


def _pause_seconds(route: Route) -> float:
    """How long nothing may come from either side, of an upload as of an answer that is awaited."""
    if route.timeout_seconds is None:
        return IDLE_REQUEST_SECONDS
    return min(max(route.timeout_seconds, SHORTEST_PAUSE_SECONDS), IDLE_REQUEST_SECONDS)


def shared_targets(gateway: Gateway) -> set[str]:
    """The services that some routes lead to with a token, and some without."""
    guarded = {route.target for route in gateway.routes if route.require is not None}
    return guarded & {route.target for route in gateway.routes if route.require is None}


def listens(system: System, route: Route) -> Listen:
    """Where a route leads to. Raises :class:`NotCompilable` if nobody listens there."""
    service = system.services.get(route.target)
    if service is None or service.listens is None:
        raise NotCompilable(
            route.at,
            f"the route `{route.path}` leads to `{route.target}`, which does not listen.",
            remedy="Route to a declared service that listens on http or grpc.",
        )
    return service.listens


def _route(system: System, gateway: Gateway, number: int, route: Route) -> Json:
    allowed = rbac.grants([HTTPGrant(m, route.path) for m in route.methods], route.at)
    who = [tokens.principal(route, gateway)]
    return {
        "name": f"route {number}",
        "match": {
            **_match(route),
            "headers": [_methods(route.methods), *_without_slashes(gateway, route)],
        },
        "route": {
            **_action(listens(system, route).port, route),
            **shares.priority(
                route.require is not None and route.target in shared_targets(gateway)
            ),
        },
        **({"request_headers_to_add": taken} if (taken := forwarding.prefix(route)) else {}),
        **_metadata(gateway, route),
        **cors.answers(route.cors),
        "typed_per_filter_config": {
            **rbac.policies({name: ([permission], who) for name, permission in allowed.items()}),
            **tokens.per_route(route.require),
            **limits.per_route(route),
            **cors.per_route(route.cors, route.methods),
        },
    }


def _metadata(gateway: Gateway, route: Route) -> Json:
    issuer = gateway.issuers.get(route.require.issuer) if route.require else None
    said = {
        **challenges.route_metadata(route.require, route.limit),
        **tokens.route_metadata(issuer),
    }
    return {"metadata": {"filter_metadata": said}} if said else {}


def _action(port: int, route: Route) -> Json:
    return {
        "cluster": outbound.name(route.target),
        "timeout": seconds(route.timeout_seconds or 0),
        "idle_timeout": seconds(IDLE_REQUEST_SECONDS),
        **({} if route.keeps_host else {"host_rewrite_literal": f"{route.target}:{port}"}),
        "retry_policy": retries.by_caller(),
        **_rewrite(route),
    }


def _spelt_like(gateway: Gateway, guards: Guards, number: int) -> Iterator[Json]:
    """Before a route: what some programs take for a path that an earlier one guards."""
    route = gateway.routes[number]
    methods: dict[str, dict[str, None]] = {}
    for method in route.methods:
        for guard in guards.of(number, method):
            # Of ``:path``, which holds the query too.
            methods.setdefault(rf"{spelling(guard.path)}(?:\?.*)?", {})[method] = None
    for pattern, guarded in methods.items():
        spelt = [_methods(tuple(guarded)), _header(":path", pattern)]
        headers = [*spelt, *_without_slashes(gateway, route)]
        yield _refusal({**_match(route), "headers": headers}, 404)


def _nothing_left(gateway: Gateway, route: Route) -> Iterator[Json]:
    """Before a route: what lies where its final ``**`` would stand for nothing, so that no looser
    route behind it answers ``/admin/``."""
    if (regex := path_matchers.nothing_left(route.path)) is not None:
        headers = [_methods(route.methods), *_without_slashes(gateway, route)]
        yield _refusal({"safe_regex": {"regex": regex}, "headers": headers}, 404)


def _steps(gateway: Gateway, route: Route) -> Iterator[Json]:
    """Before a route: what its rewrite would make another path of than it says."""
    for regex in steps(route.path, route.rewrite):
        spelt = _header(":path", rf"{regex}(?:\?.*)?")
        headers = [_methods(route.methods), spelt, *_without_slashes(gateway, route)]
        yield _refusal({**_match(route), "headers": headers}, 400)


def _without_slashes(gateway: Gateway, route: Route) -> list[Json]:
    """Once one route opts out, every other one must refuse by itself."""
    refused = path_matchers.refused_slashes(gateway.routes, [route])
    return [path_matchers.without(pattern) for pattern in refused]


def _never(gateway: Gateway) -> list[Json]:
    """What no opt-out opens."""
    return [_refusal_of_path(pattern) for pattern in path_matchers.never(gateway.routes)]


def _slashes_that_no_route_takes(gateway: Gateway) -> list[Json]:
    refused = path_matchers.refused_slashes(gateway.routes, [])
    return [_refusal_of_path(pattern) for pattern in refused]


def _refusal_of_path(pattern: str) -> Json:
    return _refusal({"prefix": "/", "headers": [_header(":path", pattern)]}, 400)


def _wrong_methods(gateway: Gateway) -> list[Json]:
    """Behind all declared routes: a declared path with another method is 405 (RFC 9110 15.5.6)."""
    by_path: dict[str, list[Route]] = {}
    for route in gateway.routes:
        by_path.setdefault(path_matchers.regex(route.path), []).append(route)
    answers = []
    for routes in by_path.values():
        methods = dict.fromkeys(method for route in routes for method in route.methods)
        allow = {"header": {"key": "allow", "value": ", ".join(methods)}}
        match = _match(routes[0], path_matchers.regex)
        if pages := next((route.cors for route in routes if route.cors), None):
            readable = _refusal({**match, "headers": [cors.from_page(pages)]}, 405)
            answers.append(readable | {"response_headers_to_add": [allow, *cors.as_said(pages)]})
        answers.append(_refusal(match, 405) | {"response_headers_to_add": [allow]})
    return answers


def _refusal(match: Json, status: int) -> Json:
    """For anyone: no filter may answer before it, and it answers nothing but the status."""
    return {
        "match": match,
        "direct_response": {"status": status},
        "typed_per_filter_config": {
            **rbac.policies({"refusal": ([rbac.ANY], [rbac.ANY])}),
            **tokens.per_route(None),
        },
    }


def _methods(methods: tuple[str, ...]) -> Json:
    return _header(":method", _any_of(methods))


def _any_of(methods: tuple[str, ...]) -> str:
    return "|".join(re.escape(method) for method in methods)


def _header(name: str, regex: str) -> Json:
    return {"name": name, "string_match": {"safe_regex": {"regex": regex}}}


def _match(route: Route, regex: Callable[[str], str] = path_matchers.claimed) -> Json:
    if path_matchers.is_literal(route.path):
        return {"path": route.path}
    return {"safe_regex": {"regex": regex(route.path)}}


def _rewrite(route: Route) -> Json:
    if route.rewrite is None:
        return {}
    here, there = len(wildcard_texts(route.path)), len(wildcard_texts(route.rewrite))
    if here != there:
        raise NotCompilable(
            route.at,
            f"the route `{route.path}` has {here} wildcards and its rewrite "
            f"`{route.rewrite}` has {there}.",
            remedy="Give both the same number: the first becomes the first, and so on.",
        )
    if path_matchers.is_literal(route.path):
        return {"prefix_rewrite": route.rewrite}
    return {
        "regex_rewrite": {
            "pattern": {"regex": path_matchers.regex(route.path)},
            "substitution": path_matchers.substitution(route.rewrite),
        }
    }
