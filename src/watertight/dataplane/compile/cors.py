"""CORS at the gateway: who may read answers in a browser, the gateway's own refusals among them.

Envoy's filter stands before all others, so that it has seen the origin when one of them refuses. It
adds no ``Vary`` and leaves what the app says beside it; the route does the rest.
"""

import re
from collections.abc import Iterable

from watertight.dataplane.compile.blocks import Json, extension, typed
from watertight.model.system import Cors

CORS = "envoy.filters.http.cors"
_KIND = "extensions.filters.http.cors.v3"

PREFLIGHT = ("origin", "access-control-request-method")
"""What makes an OPTIONS a preflight (Fetch standard, "CORS-preflight request")."""
_VARY: Json = {
    "header": {"key": "vary", "value": "Origin"},
    "append_action": "APPEND_IF_EXISTS_OR_ADD",
}
_OF_THE_APP = (
    "access-control-allow-credentials",
    "access-control-allow-headers",
    "access-control-allow-methods",
    "access-control-allow-origin",
    "access-control-allow-private-network",
    "access-control-expose-headers",
    "access-control-max-age",
)


def cors_filter() -> Json:
    """The filter in the frozen listener; it does nothing until a route says so."""
    return extension(CORS, f"{_KIND}.Cors")


def per_route(cors: Cors | None, methods: Iterable[str]) -> Json:
    """``typed_per_filter_config`` of a route that takes these methods."""
    if cors is None:
        return {}
    return {
        CORS: typed(
            f"{_KIND}.CorsPolicy",
            allow_origin_string_match=[{"exact": origin} for origin in cors.origins],
            allow_methods=", ".join(methods),
            allow_headers=", ".join(cors.headers),
            expose_headers=", ".join(cors.expose),
            max_age=str(int(cors.max_age_seconds)),
            allow_credentials=cors.credentials,
        )
    }


def answers(cors: Cors | None) -> Json:
    """Of a route: caches keep an answer for the one origin that it was given to."""
    if cors is None:
        return {}
    return {
        "response_headers_to_add": [_VARY],
        "response_headers_to_remove": list(_OF_THE_APP),
    }


def from_page(cors: Cors) -> Json:
    """A header matcher: a page that may read asks."""
    if "*" in cors.origins:
        return {"name": "origin", "present_match": True}
    every = "|".join(re.escape(origin) for origin in cors.origins)
    return {"name": "origin", "string_match": {"safe_regex": {"regex": every}}}


def as_said(cors: Cors) -> list[Json]:
    """``response_headers_to_add`` where the filter does not act, to a request :func:`from_page`."""
    said = [
        ("access-control-allow-origin", "%REQ(ORIGIN)%"),
        ("access-control-expose-headers", ", ".join(cors.expose)),
        ("access-control-allow-credentials", "true" if cors.credentials else ""),
    ]
    return [_VARY, *({"header": {"key": k, "value": v}} for k, v in said if v)]
