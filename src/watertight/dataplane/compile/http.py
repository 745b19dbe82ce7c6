"""One HTTP connection manager for all: the same strictness wherever HTTP is parsed."""

from collections.abc import Sequence
from typing import Any

from watertight.dataplane.compile import rbac
from watertight.dataplane.compile.blocks import ADS, Json, extension, seconds

HTTP_MANAGER = "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"

STREAM_WINDOW_BYTES = 65_536
"""Also what is kept of a stream whose reader does not read, in each proxy and direction."""
POOLED_STREAMS = 256
"""At once on a connection that we open; for more we open another one."""
CONNECTION_WINDOW_BYTES = POOLED_STREAMS * STREAM_WINDOW_BYTES
"""Streams share the connection's window. On connections that we open it has room for all of them,
so that no number of stalled ones holds up another; and a hostile peer can make us hold 16 MiB."""
MOST_STREAMS = 4_096
"""At once of one caller at one gRPC service; a further call is UNAVAILABLE."""

HEADERS_TIMEOUT_SECONDS = 10.0
"""Between a request's first byte and the end of its headers."""
HANDSHAKE_TIMEOUT_SECONDS = 5.0
MAX_HEADERS = 1_200
MAX_HEADERS_KIB = 320
"""Of a message between proxies: above what a gateway may declare, and what it adds."""

AMBIGUOUS_PATH: Json = {
    "safe_regex": {"regex": r"(?i)[^?]*/(\.|%2e){1,2}(;|%3b).*|/(/|%2f)+"},
}
"""Matches a path that is refused wherever paths are judged. One of slashes alone: Envoy does not
merge it, and to many apps it is ``/``. And one with a dot segment that carries parameters: Envoy
resolves ``/..;x`` as ``/..``, but finds it in ``/%2e%2e;x`` only when it normalises
for the second time: two proxies in a row would judge two paths. Measured on 1.40."""

ESCAPED_SLASH: Json = {"safe_regex": {"regex": r"(?i).*%(2f|5c).*"}}
"""Matches a path (its query is not looked at) with a slash or backslash that some apps read as
one and some do not."""

NO_HOST: Json = {
    "prefix": "/",
    "headers": [
        {
            "name": ":authority",
            "string_match": {
                "safe_regex": {"regex": r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?"}
            },
            "invert_match": True,
        }
    ],
}
"""Matches what is not sent to one host and port (RFC 9112 section 3.2). Envoy joins two ``Host``
headers by a comma; which of them an app would take, nobody knows."""

MAX_FIELD_KIB = 256
"""Of one header over HTTP/2, as it is encoded. The codec cannot read past a longer one, and ends
the connection with all streams on it; so this is the most that Envoy allows (64 KiB unless stated).
A shorter one, if it is more than a message may have in all, ends its own stream only
(docs/adr/0036)."""

HTTP2: Json = {
    "max_concurrent_streams": 1024,
    "initial_stream_window_size": STREAM_WINDOW_BYTES,
    "initial_connection_window_size": CONNECTION_WINDOW_BYTES,
    "max_header_field_size_kb": MAX_FIELD_KIB,
}
"""Between proxies, and towards apps: not at the gateway, where each of many strangers could have us
keep so much."""
POOLED_HTTP2: Json = {**HTTP2, "max_concurrent_streams": POOLED_STREAMS}
"""Where we are the client."""
HTTP1: Json = {
    "accept_http_10": True,
    "allow_custom_methods": True,
    "default_host_for_http_10": "localhost",
    "enable_trailers": True,
    "ignore_http_11_upgrade": [{"prefix": "TLS/", "ignore_case": True}],
}
"""HTTP/1.0 is what some unmodified programs still speak to their upstreams; an upgrade to TLS
(RFC 2817) is what some clients offer with every request, and a server may ignore it. A method that
Envoy does not know is judged by the grants and not by its parser."""


def router(*, silent: bool) -> Json:
    """The last filter. ``silent``: it adds no header of its own to what it passes on."""
    return extension(
        "envoy.filters.http.router",
        "extensions.filters.http.router.v3.Router",
        suppress_envoy_headers=silent,
    )


def refusal(match: Json, status: int) -> Json:
    """A route that answers nothing but the status, whoever asks."""
    return {
        "match": match,
        "direct_response": {"status": status},
        "typed_per_filter_config": rbac.policies({"refusal": ([rbac.ANY], [rbac.ANY])}),
    }


def manager(name: str, codec: str, filters: Sequence[Json], **rest: Any) -> Json:
    """A connection manager whose routes come by RDS under ``name``.

    ``codec`` is ``HTTP1`` or ``HTTP2``: protocols are declared, never sniffed. Paths are
    normalised before they are judged.
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
            **({"http2_protocol_options": dict(HTTP2)} if codec == "HTTP2" else {}),
            "normalize_path": True,
            "merge_slashes": True,
            "max_request_headers_kb": MAX_HEADERS_KIB,
            "path_with_escaped_slashes_action": "KEEP_UNCHANGED",
            "common_http_protocol_options": common_options(),
            "request_headers_timeout": seconds(HEADERS_TIMEOUT_SECONDS),
            # A quiet WebSocket, a long poll: as good as with no proxy between.
            "stream_idle_timeout": "0s",
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


def common_options(**rest: Any) -> Json:
    """``common_http_protocol_options`` of a connection manager.

    Names with ``_`` pass (RFC 9110 section 5.1 allows them, and gRPC's metadata is full of them):
    those that could be read as one of ours are removed (:mod:`.headers`).
    """
    return {"max_headers_count": MAX_HEADERS, **rest}
