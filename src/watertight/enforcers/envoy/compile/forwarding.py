"""What the app is told of the client's side: the host and port that it asked for, and https."""

from watertight.enforcers.envoy.compile.blocks import Json, extension

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


def _header(key: str, value: str) -> Json:
    header = {"key": key, "value": value}
    return {"header": header, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
