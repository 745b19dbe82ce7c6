"""The gateway's routes: one declared host, declared paths and methods, and a 4xx for the rest."""

import re
from collections.abc import Mapping

from watertight.enforcers.envoy.compile import limits, outbound, rbac, tokens
from watertight.enforcers.envoy.compile.blocks import Json, extension, seconds
from watertight.enforcers.envoy.compile.http import AMBIGUOUS_PATH, NO_HOST, UNSEEN
from watertight.enforcers.envoy.compile.refusal import NotCompilable
from watertight.model.system import Gateway, HTTPGrant, Listen, Route, System

ROUTES = "https"
IDLE_REQUEST_SECONDS = 300.0

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

TALKATIVE_HEADERS = ("server", "x-powered-by", "x-envoy-upstream-service-time")
"""What tells an attacker which exploit to look up, or how long which question takes inside."""


def route_configuration(system: System, gateway: Gateway) -> Json:
    """All of the gateway's routes, in declared order: the first that fits is taken."""
    declared = [_route(system, gateway, number, r) for number, r in enumerate(gateway.routes)]
    return {
        "name": ROUTES,
        "virtual_hosts": [
            {
                "name": "declared",
                "domains": [gateway.hostname],
                "routes": [
                    _refusal(AMBIGUOUS_PATH, 400),
                    *declared,
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
        "response_headers_to_remove": list(TALKATIVE_HEADERS),
    }


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
        "match": {**_match(route), "headers": [_methods(route.methods)]},
        "route": _action(listens(system, route).port, route),
        "typed_per_filter_config": {
            **rbac.policies({name: ([permission], who) for name, permission in allowed.items()}),
            **tokens.per_route(route.require),
            **limits.per_route(route),
        },
    }


def _action(port: int, route: Route) -> Json:
    return {
        "cluster": outbound.name(route.target),
        "timeout": seconds(route.timeout_seconds),
        "idle_timeout": seconds(IDLE_REQUEST_SECONDS),
        "host_rewrite_literal": f"{route.target}:{port}",
        "append_x_forwarded_host": True,
        # Only what the callee has not seen: its door is being made anew, or its Envoy restarts.
        "retry_policy": {
            "retry_on": UNSEEN,
            "num_retries": 8,
            "retry_back_off": {"base_interval": "0.05s", "max_interval": "0.5s"},
        },
        **_rewrite(route),
    }


def _wrong_methods(gateway: Gateway) -> list[Json]:
    """Behind all declared routes: a declared path with another method is 405 (RFC 9110 15.5.6)."""
    by_path: dict[str, list[Route]] = {}
    for route in gateway.routes:
        by_path.setdefault(_anonymous(route.path), []).append(route)
    answers = []
    for routes in by_path.values():
        methods = dict.fromkeys(method for route in routes for method in route.methods)
        allow = {"header": {"key": "allow", "value": ", ".join(methods)}}
        answers.append(
            _refusal(_match(routes[0]), 405) | {"response_headers_to_add": [allow]},
        )
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
    regex = "|".join(re.escape(method) for method in methods)
    return {"name": ":method", "string_match": {"safe_regex": {"regex": regex}}}


def _match(route: Route) -> Json:
    if not rbac.wildcards(route.path):
        return {"path": route.path}
    return {
        "path_match_policy": extension(
            "envoy.path.match.uri_template.uri_template_matcher",
            "extensions.path.match.uri_template.v3.UriTemplateMatchConfig",
            path_template=_numbered(route.path, final="=**"),
        )
    }


def _rewrite(route: Route) -> Json:
    if route.rewrite is None:
        return {}
    here, there = rbac.wildcards(route.path), rbac.wildcards(route.rewrite)
    if here != there:
        raise NotCompilable(
            route.at,
            f"the route `{route.path}` has {here} wildcards and its rewrite "
            f"`{route.rewrite}` has {there}.",
            remedy="Give both the same number: the first becomes the first, and so on.",
        )
    if not here:
        return {"prefix_rewrite": route.rewrite}
    return {
        "path_rewrite_policy": extension(
            "envoy.path.rewrite.uri_template.uri_template_rewriter",
            "extensions.path.rewrite.uri_template.v3.UriTemplateRewriteConfig",
            path_template_rewrite=_numbered(route.rewrite, final=""),
        )
    }


def _numbered(template: str, *, final: str) -> str:
    """The template in Envoy's notation: ``*`` → ``{w0}``, ``**`` → ``{w1=**}`` (or ``{w1}``)."""
    segments = []
    number = 0
    for segment in _anonymous(template).split("/"):
        if segment in {"*", "**"}:
            segments.append(f"{{w{number}{final if segment == '**' else ''}}}")
            number += 1
        else:
            segments.append(segment)
    return "/".join(segments)


def _anonymous(template: str) -> str:
    """The template with every ``{name}`` as ``*``."""
    return re.sub(r"\{[^/{}]+\}", "*", template)
