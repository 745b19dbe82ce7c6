"""What a sidecar writes down: who was refused, and why. Of good requests, nothing.

All of it goes to ``access.log`` in the proxy's own directory, one JSON object a line. Nothing in a
line is a secret: no query, no body, no header of the caller's choice.
"""

from pathlib import Path

from watertight.enforcers.envoy.compile.blocks import Json, extension

FILE = "access.log"

_REQUEST = {
    "time": "%START_TIME%",
    "peer": "%DOWNSTREAM_PEER_URI_SAN%",
    "method": "%REQ(:METHOD)%",
    "authority": "%REQ(:AUTHORITY)%",
    "path": "%PATH(NQ:PATH)%",
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


def requests(directory: Path, at: str) -> list[Json]:
    """``access_log`` of a connection manager. ``at``: its listener, which stands in each line."""
    return [{**_file(directory, {"at": at, **_REQUEST}), "filter": _REFUSED_OR_FAILED}]


def handshakes(directory: Path, at: str) -> list[Json]:
    """``access_log`` of a door: who knocked without being the one caller."""
    refused = extension(
        "envoy.access_loggers.extension_filters.cel",
        "extensions.access_loggers.filters.cel.v3.ExpressionFilter",
        expression=_TLS_REFUSED,
    )
    log = _file(directory, {"at": at, **_HANDSHAKE})
    return [{**log, "filter": {"extension_filter": refused}}]


def every_request(directory: Path, line: dict[str, str]) -> list[Json]:
    """``access_log`` of the gateway: all of them."""
    return [_file(directory, dict(line))]


def _file(directory: Path, line: dict[str, str]) -> Json:
    return extension(
        "envoy.access_loggers.file",
        "extensions.access_loggers.file.v3.FileAccessLog",
        path=str(directory / FILE),
        log_format={"json_format": line},
    )
