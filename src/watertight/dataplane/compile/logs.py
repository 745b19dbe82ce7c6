"""What a sidecar writes down: who was refused, and why. Of good requests, nothing.

All of it goes to stdout, one JSON object a line; whoever runs the proxy keeps it within bounds
(:mod:`watertight.runtime.accesslog`). Nothing in a line is a secret: no query, no body, no header
of the caller's choice. What a caller may make long is cut here already.
"""

from watertight.dataplane.compile.blocks import Json, extension

PATH_BYTES = 1024
NAME_BYTES = 255
"""Of a host (RFC 1035 section 2.3.4); more is nobody's name."""
METHOD_BYTES = 32

_REQUEST = {
    "time": "%START_TIME%",
    "peer": "%DOWNSTREAM_PEER_URI_SAN%",
    "method": f"%REQ(:METHOD):{METHOD_BYTES}%",
    "authority": f"%REQ(:AUTHORITY):{NAME_BYTES}%",
    "path": f"%PATH(NQ:PATH):{PATH_BYTES}%",
    "status": "%RESPONSE_CODE%",
    "why": "%RESPONSE_CODE_DETAILS%",
    "flags": "%RESPONSE_FLAGS%",
    "milliseconds": "%DURATION%",
}
_HANDSHAKE = {
    "time": "%START_TIME%",
    "peer": "%DOWNSTREAM_PEER_URI_SAN%",
    "why": "%DOWNSTREAM_TRANSPORT_FAILURE_REASON%",
}
_REFUSED_OR_FAILED = {
    "or_filter": {
        "filters": [
            {
                "status_code_filter": {
                    "comparison": {
                        "op": "GE",
                        "value": {
                            "default_value": 400,
                            "runtime_key": "watertight.log_from_status",
                        },
                    }
                }
            },
            {"response_flag_filter": {}},
        ]
    }
}
_TLS_REFUSED = "connection.transport_failure_reason.contains('SSL routines')"
"""TLS itself said no; a connection that merely broke off is no news."""


def requests(at: str) -> list[Json]:
    """``access_log`` of a connection manager. ``at``: its listener, which stands in each line."""
    return [{**_stdout({"at": at, **_REQUEST}), "filter": _REFUSED_OR_FAILED}]


def handshakes(at: str) -> list[Json]:
    """``access_log`` of a door: who knocked without being the one caller."""
    refused = extension(
        "envoy.access_loggers.extension_filters.cel",
        "extensions.access_loggers.filters.cel.v3.ExpressionFilter",
        expression=_TLS_REFUSED,
    )
    return [{**_stdout({"at": at, **_HANDSHAKE}), "filter": {"extension_filter": refused}}]


def every_request(line: dict[str, str]) -> list[Json]:
    """``access_log`` of the gateway: all of them."""
    return [_stdout(dict(line))]


def _stdout(line: dict[str, str]) -> Json:
    return extension(
        "envoy.access_loggers.stdout",
        "extensions.access_loggers.stream.v3.StdoutAccessLog",
        log_format={"json_format": line},
    )
