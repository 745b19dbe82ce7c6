"""What the app is told of the client's side: its address, the host and port that it asked for."""

from watertight.dataplane.compile.blocks import Json, extension
from watertight.dataplane.compile.path_matchers import is_literal
from watertight.model.system import Route

_NAMESPACE = "watertight.forwarding"
HTTPS_PORT = 443
CLIENT = "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"
"""Who asks, by its address: the same in every header, log and limit."""


def remember_port(port: int) -> Json:
    """Remembers whether the Host that the client wrote names our port; no formatter can."""
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
                        "pattern": {"regex": f"^[^:]*:?({port})?.*$"},
                        "substitution": r"\1",
                    },
                },
                "remove": False,
            }
        ],
    )


def headers() -> list[Json]:
    """``request_headers_to_add``: the port is ours, where the client asked for it, or https's own
    (a router before us leads from that one to ours), and never one that only the client knows of.

    ``x-forwarded-for`` is what the access log has and the limits count by: for a client on loopback
    Envoy itself would write an address of this host. ``-proto`` it writes itself.
    """
    port = f"%DYNAMIC_METADATA({_NAMESPACE}:port)%"
    return [
        _header("x-forwarded-for", CLIENT),
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
