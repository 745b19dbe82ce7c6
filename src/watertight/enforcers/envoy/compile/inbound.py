"""The callee's side: for each caller one door, a Unix socket that only this caller can enter.

The listeners are frozen: they say the same for every data path. Path, grants and timeouts travel
in RDS, so changing them cuts nothing (measured on Envoy 1.40; docs/explanation/data-paths.md).
"""

from dataclasses import dataclass

from watertight.enforcers.contract import Placement
from watertight.enforcers.envoy.compile import logs, rbac, tls
from watertight.enforcers.envoy.compile.blocks import (
    APP_ADDRESS,
    Json,
    cluster,
    extension,
    http_protocol,
    listener,
    pipe_address,
    seconds,
    tcp_address,
)
from watertight.enforcers.envoy.compile.http import (
    AMBIGUOUS_PATH,
    HANDSHAKE_TIMEOUT_SECONDS,
    HTTP2,
    IDLE_REQUEST_SECONDS,
    OVERRIDES,
    PEER_HEADER,
    PROXY_HEADERS,
    SUBJECT_HEADER,
    manager,
    router,
)
from watertight.enforcers.envoy.compile.lifetimes import Lifetimes, lifetimes
from watertight.enforcers.envoy.resources import Resource, ResourceType
from watertight.model.paths import DataPath
from watertight.model.system import GATEWAY, Grant, Listen, Position, Protocol, System

APP_CLUSTER = "app"
DOOR_IDLE_SECONDS = 60.0
"""A peer that says nothing is shown out; callers close earlier (outbound.POOL_IDLE_SECONDS)."""
APP_IDLE_SECONDS = 1.0
"""Below the keep-alive of every common server (gunicorn's is 2 s), so that we never send a
request into a connection that the app is just closing."""


@dataclass(frozen=True, slots=True)
class Door:
    """One caller's way into one callee."""

    callee: str
    caller: str
    listens: Listen
    path: DataPath
    grants: tuple[Grant, ...]
    """Empty: whatever the protocol can say."""
    timeout_seconds: float | None
    at: Position

    @property
    def outer(self) -> str:
        """Name of the mTLS listener and of its route configuration."""
        return f"in|{self.caller}"

    @property
    def inner(self) -> str:
        """Name of the internal listener, its route configuration and the cluster to it."""
        return f"inner|{self.caller}"

    @property
    def has_inner(self) -> bool:
        """Always for what speaks HTTP, so that a change of path finds it there already."""
        return self.listens.protocol is not Protocol.TCP and self.caller != GATEWAY


def app_cluster(listens: Listen) -> Json:
    """The way to the app itself."""
    version = "http2" if listens.protocol is Protocol.GRPC else "http"
    return cluster(
        APP_CLUSTER,
        tcp_address(APP_ADDRESS, listens.port),
        typed_extension_protocol_options=http_protocol(version, idle_seconds=APP_IDLE_SECONDS),
    )


def resources(system: System, placement: Placement, door: Door) -> list[Resource]:
    """Everything that one door consists of, in the callee's proxy."""
    lives = lifetimes(placement.svid_ttl_seconds)
    made = [
        (ResourceType.LISTENER, _outer_listener(system, placement, door, lives)),
        (ResourceType.ROUTE, _outer_routes(system, door, lives)),
    ]
    if door.has_inner:
        made += [
            (ResourceType.CLUSTER, _inner_cluster(door)),
            (ResourceType.LISTENER, _inner_listener(door, lives)),
            (ResourceType.ROUTE, _inner_routes(system, door)),
        ]
    return [Resource(kind, body["name"], body, door.at) for kind, body in made]


def _outer_listener(system: System, placement: Placement, door: Door, lives: Lifetimes) -> Json:
    peer = system.spiffe_id(door.caller)
    return listener(
        door.outer,
        pipe_address(placement.door(door.callee, door.caller), mode=0o660),
        [
            manager(
                door.outer,
                "HTTP2",
                [rbac.remember_peer(), rbac.deny_all(), router(silent=True)],
                http2_protocol_options={**HTTP2, "allow_connect": True},
                upgrade_configs=[{"upgrade_type": "CONNECT"}, {"upgrade_type": "websocket"}],
                common_http_protocol_options={
                    "headers_with_underscores_action": "REJECT_REQUEST",
                    "idle_timeout": seconds(DOOR_IDLE_SECONDS),
                    "max_connection_duration": seconds(lives.connection),
                },
                access_log=logs.requests(door.outer),
            )
        ],
        access_log=logs.handshakes(door.outer),
        transport_socket=tls.accept(peer),
        transport_socket_connect_timeout=seconds(HANDSHAKE_TIMEOUT_SECONDS),
    )


def _outer_routes(system: System, door: Door, lives: Lifetimes) -> Json:
    """A tunnel, and the same requests unwrapped, under the same grants.

    Where the callee speaks HTTP both stand open at every time: the caller's Envoy may go over from
    one to the other before or after we hear of it, and no permitted request is refused.
    """
    principals = [rbac.peer(system.spiffe_id(door.caller))]
    limits = {
        "idle_timeout": seconds(IDLE_REQUEST_SECONDS),
        "max_stream_duration": {"max_stream_duration": seconds(lives.stream)},
    }
    routes = []
    if door.caller != GATEWAY:
        routes.append(_tunnel(door, limits, principals))
    if door.listens.protocol is not Protocol.TCP:
        routes += [*_ambiguous(door), _requests(system, door, limits, principals)]
    return _route_configuration(door.outer, routes)


def _tunnel(door: Door, limits: Json, principals: list[Json]) -> Json:
    authority = rbac.authority(door.callee, door.listens.port)
    return {
        "match": {"connect_matcher": {}},
        "route": {
            "cluster": APP_CLUSTER if door.path is DataPath.TUNNEL else door.inner,
            "timeout": "0s",
            "upgrade_configs": [{"upgrade_type": "CONNECT", "connect_config": {}}],
            **limits,
        },
        "typed_per_filter_config": rbac.policies({"tunnel": ([authority], principals)}),
    }


def _ambiguous(door: Door) -> list[Json]:
    """Where paths are judged: a closed route for those that cannot be."""
    if not door.grants:
        return []
    answer = {"match": AMBIGUOUS_PATH, "direct_response": {"status": 400}}
    return [answer | {"typed_per_filter_config": rbac.policies({})}]


def _requests(system: System, door: Door, limits: Json, principals: list[Json]) -> Json:
    allowed = {name: ([permission], principals) for name, permission in _permissions(door).items()}
    return {
        "match": {"prefix": "/"},
        "route": _to_app(door) | limits,
        "typed_per_filter_config": rbac.policies(allowed),
        **_headers(system, door),
    }


def _inner_listener(door: Door, lives: Lifetimes) -> Json:
    """Reached only through the tunnel route of the outer listener, that is by its one caller."""
    return {
        "name": door.inner,
        "internal_listener": {},
        "filter_chains": [
            {
                "filters": [
                    manager(
                        door.inner,
                        "HTTP2" if door.listens.protocol is Protocol.GRPC else "HTTP1",
                        [rbac.deny_all(), router(silent=True)],
                        upgrade_configs=[{"upgrade_type": "websocket"}],
                        # HTTP/1: the next answer says `connection: close`. HTTP/2: GOAWAY.
                        http1_safe_max_connection_duration=True,
                        common_http_protocol_options={
                            "headers_with_underscores_action": "REJECT_REQUEST",
                            "max_connection_duration": seconds(lives.graceful),
                        },
                        access_log=logs.requests(door.inner),
                    )
                ]
            }
        ],
    }


def _inner_routes(system: System, door: Door) -> Json:
    limits = {"idle_timeout": seconds(IDLE_REQUEST_SECONDS)}
    routes = [*_ambiguous(door), _requests(system, door, limits, [rbac.ANY])]
    return _route_configuration(door.inner, routes)


def _inner_cluster(door: Door) -> Json:
    return cluster(
        door.inner,
        {"envoy_internal_address": {"server_listener_name": door.inner}},
        transport_socket=extension(
            "envoy.transport_sockets.internal_upstream",
            "extensions.transport_sockets.internal_upstream.v3.InternalUpstreamTransport",
            transport_socket=extension(
                "envoy.transport_sockets.raw_buffer",
                "extensions.transport_sockets.raw_buffer.v3.RawBuffer",
            ),
        ),
    )


def _permissions(door: Door) -> dict[str, Json]:
    """By grant; identity alone allows whatever HTTP can say."""
    return rbac.grants(door.grants, door.at) if door.grants else {"identity": rbac.ANY}


def _to_app(door: Door) -> Json:
    """What never reached the app may be tried again whatever its method: nothing was done yet."""
    return {
        "cluster": APP_CLUSTER,
        "timeout": seconds(door.timeout_seconds or 0),
        "retry_policy": {"retry_on": "connect-failure,reset-before-request", "num_retries": 2},
    }


def _headers(system: System, door: Door) -> Json:
    """The app learns who calls, in a header that no caller of a parsed channel can forge."""
    told = {
        "header": {"key": PEER_HEADER, "value": f"URI={system.spiffe_id(door.caller)}"},
        "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
    }
    forged = [*OVERRIDES, *PROXY_HEADERS, *(() if door.caller == GATEWAY else (SUBJECT_HEADER,))]
    return {"request_headers_to_add": [told], "request_headers_to_remove": forged}


def _route_configuration(name: str, routes: list[Json]) -> Json:
    return {"name": name, "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]}
