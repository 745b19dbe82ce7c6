"""The caller's side: a loopback address for each callee, and the mTLS connections behind it."""

from watertight.enforcers.contract import Placement
from watertight.enforcers.envoy.compile import logs, tls
from watertight.enforcers.envoy.compile.blocks import (
    Json,
    cluster,
    extension,
    http_protocol,
    listener,
    pipe_address,
    seconds,
    tcp_address,
)
from watertight.enforcers.envoy.compile.callee import callee
from watertight.enforcers.envoy.compile.http import (
    CONNECTION_WINDOW_BYTES,
    IDLE_REQUEST_SECONDS,
    STREAM_WINDOW_BYTES,
    manager,
    router,
)
from watertight.enforcers.envoy.resources import Resource, ResourceType
from watertight.model.addresses import callee_addresses
from watertight.model.paths import DataPath, data_path
from watertight.model.system import Channel, Listen, Protocol, System

POOL_IDLE_SECONDS = 45.0
"""Below inbound.DOOR_IDLE_SECONDS, so that the side which might still send is the one to close."""
CONNECT_ATTEMPTS = 15
"""With the back-off about 3 s: a callee's Envoy restarts, or its door is made anew, and no new
connection is lost."""
IDEMPOTENT = "GET|HEAD|OPTIONS|TRACE|PUT|DELETE"
"""RFC 9110 section 9.2.2."""


def name(callee_name: str) -> str:
    """Of the listener, the cluster and the route configuration that lead to a callee."""
    return f"out|{callee_name}"


def peer_cluster(system: System, placement: Placement, caller: str, target: str) -> Json:
    """The pooled mTLS connections from ``caller`` to ``target``'s door for it."""
    return cluster(
        name(target),
        pipe_address(placement.door(target, caller)),
        transport_socket=tls.connect(system.spiffe_id(target), target),
        typed_extension_protocol_options=http_protocol(
            "http2",
            {
                "allow_connect": True,
                "initial_stream_window_size": STREAM_WINDOW_BYTES,
                "initial_connection_window_size": CONNECTION_WINDOW_BYTES,
                "connection_keepalive": {"interval": "30s", "timeout": "5s"},
            },
            idle_seconds=POOL_IDLE_SECONDS,
        ),
    )


def resources(system: System, placement: Placement, channel: Channel) -> list[Resource]:
    """Everything of one channel in the caller's proxy."""
    listens = callee(system, channel)
    addresses = callee_addresses(system, channel.source, shared_network=placement.shared_network)
    address = tcp_address(addresses[channel.target], listens.port)
    made = [
        (
            ResourceType.CLUSTER,
            peer_cluster(system, placement, channel.source, channel.target),
        )
    ]
    if data_path(system, channel) is DataPath.HTTP:
        made += [
            (ResourceType.LISTENER, _http_listener(channel, listens, address)),
            (ResourceType.ROUTE, _http_routes(channel, listens)),
        ]
    else:
        made += [(ResourceType.LISTENER, _tunnel_listener(channel, listens, address))]
    return [Resource(kind, body["name"], body, channel.at) for kind, body in made]


def _tunnel_listener(channel: Channel, listens: Listen, address: Json) -> Json:
    """Whatever comes in goes through a CONNECT stream of its own; nothing is parsed."""
    there = name(channel.target)
    return listener(
        there,
        address,
        [
            extension(
                "envoy.filters.network.tcp_proxy",
                "extensions.filters.network.tcp_proxy.v3.TcpProxy",
                stat_prefix=there,
                cluster=there,
                idle_timeout=seconds(IDLE_REQUEST_SECONDS),
                tunneling_config={"hostname": f"{channel.target}:{listens.port}"},
                max_connect_attempts=CONNECT_ATTEMPTS,
                backoff_options={"base_interval": "0.05s", "max_interval": "0.5s"},
            )
        ],
    )


def _http_listener(channel: Channel, listens: Listen, address: Json) -> Json:
    grpc = listens.protocol is Protocol.GRPC
    return listener(
        name(channel.target),
        address,
        [
            manager(
                name(channel.target),
                "HTTP2" if grpc else "HTTP1",
                [router(silent=True)],
                upgrade_configs=[{"upgrade_type": "websocket"}],
                access_log=logs.requests(name(channel.target)),
            )
        ],
    )


def _http_routes(channel: Channel, listens: Listen) -> Json:
    """Only what may safely be done twice is tried again after the callee has seen it.

    A gRPC ``UNAVAILABLE`` is retried as gRPC clients do by convention; no gRPC method says whether
    it is idempotent, and whoever declares retries for a service takes that upon himself.
    """
    unseen = "connect-failure,refused-stream,reset-before-request"
    if listens.protocol is Protocol.GRPC:
        routes = [_http_route(channel, {"prefix": "/"}, f"unavailable,{unseen}")]
    else:
        twice = [
            {
                "name": ":method",
                "string_match": {"safe_regex": {"regex": IDEMPOTENT}},
            }
        ]
        routes = [
            _http_route(channel, {"prefix": "/", "headers": twice}, f"5xx,reset,{unseen}"),
            _http_route(channel, {"prefix": "/"}, unseen),
        ]
    return {
        "name": name(channel.target),
        "virtual_hosts": [{"name": channel.target, "domains": ["*"], "routes": routes}],
    }


def _http_route(channel: Channel, match: Json, retry_on: str) -> Json:
    return {
        "match": match,
        "route": {
            "cluster": name(channel.target),
            "timeout": seconds(channel.timeout_seconds or 0),
            "idle_timeout": seconds(IDLE_REQUEST_SECONDS),
            "retry_policy": {
                "retry_on": retry_on,
                "num_retries": channel.retries,
                "retry_back_off": {"base_interval": "0.025s", "max_interval": "0.25s"},
            },
        },
    }
