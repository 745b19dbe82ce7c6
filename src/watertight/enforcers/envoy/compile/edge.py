"""The gateway's proxy: the outside comes in by HTTPS, and goes on like any other caller."""

from collections.abc import Mapping

from watertight.enforcers.contract import Placement
from watertight.enforcers.envoy.compile import limits, logs, outbound, rbac, tls, tokens
from watertight.enforcers.envoy.compile.blocks import (
    Json,
    extension,
    listener,
    seconds,
    tcp_address,
    typed,
)
from watertight.enforcers.envoy.compile.edge_routes import ROUTES, route_configuration
from watertight.enforcers.envoy.compile.http import (
    OVERRIDES,
    PROXY_HEADERS,
    SUBJECT_HEADER,
    manager,
    router,
)
from watertight.enforcers.envoy.resources import Resource, ResourceType
from watertight.model.system import GATEWAY, Gateway, System

LISTENER = "https"
IDLE_CONNECTION_SECONDS = 300.0
HANDSHAKE_TIMEOUT_SECONDS = 10.0
REQUEST_TIMEOUT_SECONDS = 60.0
"""Until the whole request has come: a client that sends a byte a second is not waited for."""
MAX_HEADERS_KIB = 32
CONNECTION_BUFFER_BYTES = 32_768
HTTP2_AT_THE_EDGE = {
    "max_concurrent_streams": 100,
    "initial_stream_window_size": 65_536,
    "initial_connection_window_size": 1_048_576,
}
"""Envoy's own advice for an edge proxy ("Configuring Envoy as an edge proxy")."""

FORWARDING = (
    "forwarded",
    "true-client-ip",
    "x-client-ip",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-real-ip",
)
"""Where a request comes from is what we see: no proxy stands before this one that we would trust.
An app that reads the first address of ``x-forwarded-for`` must not read the client's own words."""

ACCESS_LOG = {
    "time": "%START_TIME%",
    "client": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
    "tls": "%DOWNSTREAM_TLS_VERSION%",
    "protocol": "%PROTOCOL%",
    "request_id": f"%REQ(X-REQUEST-ID):{logs.NAME_BYTES}%",
    "subject": f"%REQ({SUBJECT_HEADER.upper()}):{logs.NAME_BYTES}%",
    "method": f"%REQ(:METHOD):{logs.METHOD_BYTES}%",
    "host": f"%REQ(:AUTHORITY):{logs.NAME_BYTES}%",
    "path": f"%PATH(NQ:ORIG_OR_PATH):{logs.PATH_BYTES}%",
    "route": "%ROUTE_NAME%",
    "to": "%UPSTREAM_CLUSTER%",
    "status": "%RESPONSE_CODE%",
    "why": "%RESPONSE_CODE_DETAILS%",
    "flags": "%RESPONSE_FLAGS%",
    "bytes_received": "%BYTES_RECEIVED%",
    "bytes_sent": "%BYTES_SENT%",
    "milliseconds": "%DURATION%",
}
"""Every request, as JSON. No tokens, and no query: values in it may be secrets."""


def resources(
    system: System, placement: Placement, gateway: Gateway, keys: Mapping[str, str]
) -> tuple[Resource, ...]:
    """What the gateway's proxy is sent; it has a door nowhere, and channels to its targets only."""
    first_route = {route.target: route.at for route in reversed(gateway.routes)}
    clusters = [
        Resource(ResourceType.CLUSTER, body["name"], body, first_route[target])
        for target in sorted(first_route)
        for body in [outbound.peer_cluster(system, placement, GATEWAY, target)]
    ]
    body = tokens.verification(gateway, keys)
    return (
        *clusters,
        Resource(ResourceType.EXTENSION, body["name"], body, gateway.at),
        Resource(ResourceType.LISTENER, LISTENER, _listener(gateway), gateway.at),
        Resource(ResourceType.ROUTE, ROUTES, route_configuration(system, gateway), gateway.at),
    )


def _listener(gateway: Gateway) -> Json:
    """Frozen but for address, port and size limit: hosts, routes, tokens and limits travel apart.

    ``%2F`` and what else can be read in two ways is refused before any filter sees it.
    """
    return listener(
        LISTENER,
        tcp_address(gateway.address, gateway.port),
        [
            manager(
                ROUTES,
                "AUTO",
                [
                    limits.limit_filter(limits.BY_ADDRESS),
                    *tokens.filters(),
                    rbac.deny_all(),
                    limits.limit_filter(limits.BY_SUBJECT),
                    _body_limit(gateway.max_request_bytes),
                    # Not silent: the log needs the path as it was before a rewrite.
                    router(silent=False),
                ],
                http_protocol_options={},
                http2_protocol_options=HTTP2_AT_THE_EDGE,
                common_http_protocol_options={
                    "headers_with_underscores_action": "REJECT_REQUEST",
                    "idle_timeout": seconds(IDLE_CONNECTION_SECONDS),
                },
                max_request_headers_kb=MAX_HEADERS_KIB,
                request_timeout=seconds(REQUEST_TIMEOUT_SECONDS),
                stream_idle_timeout=seconds(IDLE_CONNECTION_SECONDS),
                use_remote_address=True,
                skip_xff_append=False,
                generate_request_id=True,
                preserve_external_request_id=False,
                strip_any_host_port=True,
                upgrade_configs=[{"upgrade_type": "websocket"}],
                early_header_mutation_extensions=[_strip()],
                access_log=logs.every_request(ACCESS_LOG),
            )
        ],
        transport_socket=tls.serve_https(),
        transport_socket_connect_timeout=seconds(HANDSHAKE_TIMEOUT_SECONDS),
        per_connection_buffer_limit_bytes=CONNECTION_BUFFER_BYTES,
    )


def _strip() -> Json:
    """Before anything else: what only we say, and what would turn one request into another."""
    stripped = (SUBJECT_HEADER, *FORWARDING, *OVERRIDES, *PROXY_HEADERS)
    return extension(
        "envoy.http.early_header_mutation.header_mutation",
        "extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation",
        mutations=[{"remove": name} for name in stripped],
    )


def _body_limit(max_bytes: int) -> Json:
    """413 above it, counted as it streams: nothing is buffered.

    As a ``TypedStruct``, because the published Python protos are older than this filter.
    """
    return {
        "name": "envoy.filters.http.body_size_limit",
        "typed_config": {
            "@type": "type.googleapis.com/xds.type.v3.TypedStruct",
            "type_url": typed("extensions.filters.http.body_size_limit.v3.BodySizeLimit")["@type"],
            "value": {"max_request_bytes": max_bytes},
        },
    }
