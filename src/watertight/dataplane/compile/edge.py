"""The gateway's proxy: the outside comes in by HTTPS, and goes on like any other caller."""

from collections.abc import Mapping

from watertight.dataplane.compile import (
    challenges,
    cors,
    edge_routes,
    forwarding,
    limits,
    logs,
    outbound,
    path_matchers,
    rbac,
    shares,
    tls,
    tokens,
)
from watertight.dataplane.compile.blocks import (
    Json,
    listener,
    seconds,
    tcp_address,
    typed,
)
from watertight.dataplane.compile.edge_routes import ROUTES, route_configuration
from watertight.dataplane.compile.headers import (
    CERTIFICATES,
    FORWARDING,
    OVERRIDES,
    PROXIES,
    SERVED_USERS,
    SUBJECT_HEADER,
    USERS,
    copy_framing,
    early,
    removals,
)
from watertight.dataplane.compile.http import HTTP1, common_options, manager, router
from watertight.dataplane.resources import Resource, ResourceType
from watertight.model.placement import Placement
from watertight.model.system import GATEWAY, Gateway, Route, System

REQUEST_ID = "x-request-id"
"""Ours to give, so that no stranger writes into the lines of others in a log. Envoy itself keeps a
client's where it takes the address for internal (loopback, RFC 1918), whatever its options say."""
_NOT_FOR_STRANGERS = (*CERTIFICATES, *FORWARDING, *OVERRIDES, *USERS, REQUEST_ID)
STRANGE = (*PROXIES, *SERVED_USERS)

LISTENER = "https"
IDLE_CONNECTION_SECONDS = 75.0
"""With no request on it. Longer than what a load balancer before us keeps (60 s is usual), so that
the side which would send is the one to close; shorter while the gateway is crowded (bootstrap)."""
REFUSED_IDLE_SECONDS = 60.0
"""A pause in a request that no route takes; routes say themselves how long theirs may be."""
HANDSHAKE_TIMEOUT_SECONDS = 10.0
STALLED_SECONDS = 3.0
"""How long a client may take no byte of an answer's tail before its closing connection is cut; and
how long the end of a WebSocket, or of an upload that is answered early, waits for the client's."""
HTTP2_AT_THE_EDGE = {
    "max_concurrent_streams": 100,
    "initial_stream_window_size": 65_536,
    "initial_connection_window_size": 1_048_576,
}
"""Envoy's own advice for an edge proxy ("Configuring Envoy as an edge proxy")."""

ACCESS_LOG = {
    "time": "%START_TIME%",
    "client": forwarding.CLIENT,
    "tls": "%DOWNSTREAM_TLS_VERSION%",
    "protocol": "%PROTOCOL%",
    "request_id": f"%REQ({REQUEST_ID.upper()}):{logs.NAME_BYTES}%",
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
    routes = route_configuration(system, gateway)  # raises for a target that does not listen
    first_route = {route.target: route for route in reversed(gateway.routes)}
    clusters = [
        Resource(ResourceType.CLUSTER, body["name"], body, route.at)
        for _target, route in sorted(first_route.items())
        for body in _clusters(system, placement, gateway, route)
    ]
    body = tokens.verification(gateway, keys)
    return (
        *clusters,
        Resource(ResourceType.EXTENSION, body["name"], body, gateway.at),
        Resource(ResourceType.LISTENER, LISTENER, _listener(gateway), gateway.at),
        Resource(ResourceType.ROUTE, ROUTES, routes, gateway.at),
    )


def _clusters(system: System, placement: Placement, gateway: Gateway, route: Route) -> list[Json]:
    speaks = edge_routes.listens(system, route).protocol
    made = outbound.peer_clusters(system, placement, GATEWAY, route.target, speaks)
    if route.target in edge_routes.shared_targets(gateway):
        for body in made:
            shares.divide(body, speaks)
    return made


def _listener(gateway: Gateway) -> Json:
    """Frozen but for what a gateway says once: routes, tokens and limits travel apart.

    ``%2F`` and what else can be read in two ways is refused before any filter sees it, unless a
    route opts out.
    """
    return listener(
        LISTENER,
        tcp_address(gateway.address, gateway.port),
        [
            manager(
                ROUTES,
                "AUTO",
                [
                    cors.cors_filter(),
                    forwarding.remember_port(gateway.port),
                    limits.limit_filter(limits.BY_ADDRESS),
                    *tokens.filters(),
                    rbac.deny_all(),
                    limits.limit_filter(limits.BY_SUBJECT),
                    _body_limit(gateway.max_request_bytes),
                    # Not silent: the log needs the path as it was before a rewrite.
                    router(silent=False),
                ],
                http_protocol_options={**HTTP1, "default_host_for_http_10": gateway.hostname},
                http2_protocol_options=HTTP2_AT_THE_EDGE,
                common_http_protocol_options=common_options(
                    idle_timeout=seconds(IDLE_CONNECTION_SECONDS),
                    max_headers_count=gateway.max_headers,
                ),
                max_request_headers_kb=gateway.max_header_bytes >> 10,
                stream_idle_timeout=seconds(REFUSED_IDLE_SECONDS),
                delayed_close_timeout=seconds(STALLED_SECONDS),
                use_remote_address=True,
                generate_request_id=True,
                preserve_external_request_id=False,
                strip_trailing_host_dot=True,
                local_reply_config=challenges.local_replies(gateway.hostname),
                **path_matchers.kept_slashes(gateway.routes),
                upgrade_configs=[{"upgrade_type": "websocket"}],
                # Before anything else: what only we say, and what makes another request of one.
                early_header_mutation_extensions=[
                    early([*removals(_NOT_FOR_STRANGERS, STRANGE), copy_framing()])
                ],
                access_log=logs.every_request(ACCESS_LOG),
            )
        ],
        transport_socket=tls.serve_https(),
        transport_socket_connect_timeout=seconds(HANDSHAKE_TIMEOUT_SECONDS),
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
