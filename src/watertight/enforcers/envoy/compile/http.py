"""One HTTP connection manager for all: the same strictness wherever HTTP is parsed."""

from collections.abc import Sequence
from typing import Any

from watertight.enforcers.envoy.compile.blocks import ADS, Json, extension, seconds

HTTP_MANAGER = "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"

STREAM_WINDOW_BYTES = 262_144
CONNECTION_WINDOW_BYTES = 67_108_864
"""Streams share the connection's window: 256 of them may stall before others feel it, and a
hostile peer can make us hold 64 MiB at most."""

HEADERS_TIMEOUT_SECONDS = 10.0
"""Between a request's first byte and the end of its headers."""
HANDSHAKE_TIMEOUT_SECONDS = 5.0
IDLE_REQUEST_SECONDS = 3600.0
"""A quiet WebSocket or a long poll is as good as with no proxy between."""

PEER_HEADER = "x-forwarded-client-cert"
SUBJECT_HEADER = "x-watertight-subject"
"""The verified ``sub`` of the token that the gateway saw."""

OVERRIDES = (
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-url",
    "x-rewrite-url",
)
"""Headers by which frameworks let a request become another one than was judged here."""

PROXY_HEADERS = (
    "x-envoy-attempt-count",
    "x-envoy-expected-rq-timeout-ms",
    "x-envoy-original-host",
    "x-envoy-original-path",
)
"""What the gateway's router notes on a request for its log; no business of the app's."""

AMBIGUOUS_PATH: Json = {
    "safe_regex": {"regex": r"(?i)[^?]*/(\.|%2e){1,2}(;|%3b).*"},
}
"""Matches a path with a dot segment that carries parameters, which is refused wherever paths are
judged. Envoy resolves ``/..;x`` as ``/..``, but finds it in ``/%2e%2e;x`` only when it normalises
for the second time: two proxies in a row would judge two paths. Measured on 1.40."""

HTTP2: Json = {
    "max_concurrent_streams": 1024,
    "initial_stream_window_size": STREAM_WINDOW_BYTES,
    "initial_connection_window_size": CONNECTION_WINDOW_BYTES,
}
HTTP1: Json = {"accept_http_10": True, "default_host_for_http_10": "localhost"}
"""HTTP/1.0 is what some unmodified programs still speak to their upstreams."""


def router(*, silent: bool) -> Json:
    """The last filter. ``silent``: it adds no header of its own to what it passes on."""
    return extension(
        "envoy.filters.http.router",
        "extensions.filters.http.router.v3.Router",
        suppress_envoy_headers=silent,
    )


def manager(name: str, codec: str, filters: Sequence[Json], **rest: Any) -> Json:
    """A connection manager whose routes come by RDS under ``name``.

    ``codec`` is ``HTTP1`` or ``HTTP2``: protocols are declared, never sniffed. Paths are
    normalised before they are judged, and what could be read in two ways is refused.
    """
    return extension(
        "envoy.filters.network.http_connection_manager",
        HTTP_MANAGER,
        **{
            "stat_prefix": name,
            "codec_type": codec,
            "rds": {"route_config_name": name, "config_source": dict(ADS)},
            "http_filters": list(filters),
            "http_protocol_options": dict(HTTP1),
            "http2_protocol_options": dict(HTTP2),
            "normalize_path": True,
            "merge_slashes": True,
            "path_with_escaped_slashes_action": "REJECT_REQUEST",
            "common_http_protocol_options": {"headers_with_underscores_action": "REJECT_REQUEST"},
            "request_headers_timeout": seconds(HEADERS_TIMEOUT_SECONDS),
            "server_header_transformation": "PASS_THROUGH",
            "forward_client_cert_details": "SANITIZE",
            # An empty message, not an absent one: no address makes `x-envoy-*` trusted.
            "internal_address_config": {},
            "skip_xff_append": True,
            "generate_request_id": False,
            "preserve_external_request_id": True,
            **rest,
        },
    )
