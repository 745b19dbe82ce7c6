"""What the app is told of the client's side: the host and port that it asked for, and https."""

from watertight.enforcers.envoy.compile.blocks import Json, extension
from watertight.enforcers.envoy.compile.path_matchers import is_literal
from watertight.model.system import Route

_NAMESPACE = "watertight.forwarding"
_PORT_OR_NOTHING = r"^[^:]*:?([0-9]*)$"
HTTPS_PORT = 443


def remember_port() -> Json:
    """Takes the port out of the Host that the client wrote; no formatter of Envoy can."""
    return extension(
        "envoy.filters.http.header_to_metadata",
        "extensions.filters.http.header_to_metadata.v3.Config",
        request_rules=[
            {
                "header": ":authority",
                "on_header_present": {
                    "metadata_namespace": _NAMESPACE,
                    "key": "port",
                    "regex_value_rewrite": {
                        "pattern": {"regex": _PORT_OR_NOTHING},
                        "substitution": r"\1",
                    },
                },
                "remove": False,
            }
        ],
    )


def headers() -> list[Json]:
    """``request_headers_to_add``: the port is that of the Host, or https's own.

    ``x-forwarded-for`` and ``-proto`` the connection manager writes.
    """
    port = f"%DYNAMIC_METADATA({_NAMESPACE}:port)%"
    return [
        _header("x-forwarded-host", "%REQ(:AUTHORITY)%"),
        _header("x-forwarded-port", str(HTTPS_PORT)),
        _header("x-forwarded-port", port),
    ]


def prefix(route: Route) -> list[Json]:
    """``request_headers_to_add`` of a route: the beginning of the path that a rewrite takes away,
    by which apps make links and redirects that lead back here."""
    if route.rewrite is None or not route.path.endswith(route.rewrite):
        return []
    taken = route.path.removesuffix(route.rewrite)
    return [_header("x-forwarded-prefix", taken)] if taken and is_literal(taken) else []


def _header(key: str, value: str) -> Json:
    header = {"key": key, "value": value}
    return {"header": header, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
