"""The callee's side: for each caller one door, a Unix socket that only this caller can enter.

The listeners are frozen: they follow from what the callee speaks and from nothing else. Grants and
timeouts travel in RDS, so changing them cuts nothing (docs/explanation/data-paths.md).
"""

from dataclasses import replace

from watertight.dataplane.compile import (
    app,
    logs,
    passing,
    path_matchers,
    rbac,
    retries,
    tls,
)
from watertight.dataplane.compile.blocks import (
    Json,
    extension,
    listener,
    pipe_address,
    seconds,
)
from watertight.dataplane.compile.door import Door, is_door
from watertight.dataplane.compile.headers import (
    CERTIFICATES,
    CODING_HEADER,
    FORWARDING,
    FRAMING,
    PEER_HEADER,
    PROXIES,
    UNSEEN_HEADER,
    copy_coding,
    early,
    hidden_body_filter,
    look_alikes,
    mutation_filter,
    overwrite,
    removals,
    without_overrides,
)
from watertight.dataplane.compile.http import (
    AMBIGUOUS_PATH,
    ESCAPED_SLASH,
    HANDSHAKE_TIMEOUT_SECONDS,
    NO_HOST,
    POOLED_HTTP2,
    common_options,
    manager,
    refusal,
    router,
)
from watertight.dataplane.compile.lifetimes import Lifetimes, lifetimes
from watertight.dataplane.resources import Resource, ResourceType
from watertight.model.placement import Placement
from watertight.model.system import GATEWAY, HTTPGrant, Protocol, Route, System

STALLED_SECONDS = 20.0
"""How long a closing connection waits for the caller's proxy: to take the next byte of an answer's
tail, or to end an upload that was answered early. The end of an answer that breaks off is told by
the end of its connection, which comes so much later (Envoy's ``delayed_close_timeout``)."""
MOST_CONNECTIONS_OF_GATEWAY = 4_000
"""It comes for many."""
MOST_CONNECTIONS_OF_GRPC = 64
"""Calls share connections: the caller's proxy opens another one for each 256 (http.POOLED_STREAMS),
and keeps old ones for as long as a stream lives on them. The gateway's clients share none."""


def resources(system: System, placement: Placement, door: Door) -> list[Resource]:
    """Everything that one door consists of, in the callee's proxy."""
    lives = lifetimes(placement.svid_ttl_seconds)
    peer = system.spiffe_id(door.caller)
    made = [(ResourceType.LISTENER, _listener(placement, door, lives, peer))]
    if door.listens.protocol is not Protocol.TCP:
        made.append((ResourceType.ROUTE, _routes(door, lives, peer)))
    return [Resource(kind, body["name"], body, door.at) for kind, body in made]


def while_away(resource: Resource) -> Resource:
    """A door's routes while the app is stopped: it has seen nothing, which the caller repeats."""
    if resource.type is not ResourceType.ROUTE or not is_door(resource.name):
        return resource
    away = refusal({"prefix": "/"}, 503)
    away["response_headers_to_add"] = [overwrite(UNSEEN_HEADER, "0")]
    host = {"name": "all", "domains": ["*"], "routes": [away]}
    return replace(resource, body={"name": resource.name, "virtual_hosts": [host]})


def _listener(placement: Placement, door: Door, lives: Lifetimes, peer: str) -> Json:
    speaks = door.listens.protocol
    if speaks is Protocol.TCP:
        filters = passing.to_app(door.name, peer, lives)
    else:
        filters = [_manager(door, lives, delayed_close_timeout=seconds(STALLED_SECONDS))]
    made = listener(
        door.name,
        pipe_address(placement.door(door.callee, door.caller), mode=0o660),
        [_bound(door), *filters],
        access_log=logs.handshakes(door.name),
        transport_socket=tls.accept(peer, tls.ALPN[speaks]),
        transport_socket_connect_timeout=seconds(HANDSHAKE_TIMEOUT_SECONDS),
    )
    return made | _for_upgrades(door, lives, peer, made) if speaks is Protocol.HTTP else made


def _for_upgrades(door: Door, lives: Lifetimes, peer: str, made: Json) -> Json:
    """A second filter chain, under the same routes, for connections that carry an upgrade.

    Envoy closes a connection whose answer ends before its request in one of two ways. It waits
    for the peer, so that an early answer to an upload is read before the upload runs into a closed
    socket; or it closes at once when all is written, so that the end of a WebSocket is the end.
    """
    chain: Json = {
        **made["filter_chains"][0],
        "filter_chain_match": {"application_protocols": [tls.UPGRADES]},
        "filters": [
            _bound(door),
            _manager(door, lives, delayed_close_timeout="0s"),
        ],
        "transport_socket": tls.accept(peer, [tls.UPGRADES]),
    }
    inspector = extension(
        "envoy.filters.listener.tls_inspector",
        "extensions.filters.listener.tls_inspector.v3.TlsInspector",
    )
    return {
        "filter_chains": [*made["filter_chains"], chain],
        "listener_filters": [inspector],
        "listener_filters_timeout": seconds(HANDSHAKE_TIMEOUT_SECONDS),
    }


def _bound(door: Door) -> Json:
    if door.caller == GATEWAY:
        return passing.bound(door.name, MOST_CONNECTIONS_OF_GATEWAY)
    if door.listens.protocol is Protocol.GRPC:
        return passing.bound(door.name, MOST_CONNECTIONS_OF_GRPC)
    return passing.bound(door.name)


def _manager(door: Door, lives: Lifetimes, *, delayed_close_timeout: str) -> Json:
    grpc = door.listens.protocol is Protocol.GRPC
    return manager(
        door.name,
        "HTTP2" if grpc else "HTTP1",
        [
            rbac.remember_peer(),
            rbac.deny_all(),
            *([] if grpc else [hidden_body_filter()]),
            mutation_filter(),
            router(silent=True),
        ],
        **({"http2_protocol_options": dict(POOLED_HTTP2)} if grpc else {}),
        upgrade_configs=[{"upgrade_type": "websocket"}],
        common_http_protocol_options=common_options(
            # None shorter: to Envoy a connection is idle whose answer's tail nobody takes.
            idle_timeout=seconds(lives.connection),
            max_connection_duration=seconds(lives.connection),
        ),
        drain_timeout=seconds(lives.drain),
        delayed_close_timeout=delayed_close_timeout,
        early_header_mutation_extensions=[early([*_forged(door), copy_coding()])],
        access_log=logs.requests(door.name),
        local_reply_config=retries.told_to_caller(),
        **path_matchers.merging(door.routes),
    )


def _forged(door: Door) -> list[Json]:
    """The gateway says by some of these headers where a request comes from, and is believed."""
    framing = look_alikes(FRAMING) if door.listens.protocol is Protocol.HTTP else []
    if door.caller == GATEWAY:
        return [*removals([CODING_HEADER], ["x-envoy-"]), *framing]
    return [*removals((*CERTIFICATES, *FORWARDING), PROXIES), *framing]


def _routes(door: Door, lives: Lifetimes, peer: str) -> Json:
    """First what nobody can judge, then the ways to the app, each under the same grants."""
    routes = [refusal(NO_HOST, 400)]
    if door.grants:
        routes.append(refusal(AMBIGUOUS_PATH, 400))
        if not any(route.escaped_slashes for route in door.routes):
            routes.append(refusal(ESCAPED_SLASH, 400))
    guarded = door.listens.protocol is Protocol.HTTP
    ways = app.WAYS if guarded else app.WAYS[-1:]
    routes += [_route(door, lives, peer, way) for way in ways]
    host: Json = {"name": "all", "domains": ["*"], "routes": routes}
    if door.grants:
        host["typed_per_filter_config"] = without_overrides()
    return {"name": door.name, "virtual_hosts": [host]}


def _route(door: Door, lives: Lifetimes, peer: str, way: app.Way) -> Json:
    permissions = _permissions(door)
    http = door.listens.protocol is Protocol.HTTP
    principals = [rbac.peer(peer)]
    told = overwrite(PEER_HEADER, f"URI={peer}")
    return {
        "match": {"prefix": "/", **({"headers": way.headers()} if way.headers() else {})},
        "route": {
            "cluster": way.cluster,
            "timeout": seconds(door.timeout_seconds or 0),
            "idle_timeout": "0s",
            "max_stream_duration": _longest(lives.stream, grpc=not http),
            "retry_policy": retries.by_callee(
                door.listens.protocol,
                # Every answer to an upgrade but 101 has a status of ours (ADR 33).
                0 if way.cluster == app.UPGRADES else door.retries,
                safe=way.again and http,
            ),
        },
        "typed_per_filter_config": rbac.policies(
            {name: ([permission], principals) for name, permission in permissions.items()}
        ),
        "request_headers_to_add": [told, *way.adds()],
        "request_headers_to_remove": _removed(door),
        "response_headers_to_remove": [UNSEEN_HEADER],
    }


def _longest(stream_seconds: float, *, grpc: bool) -> Json:
    """``max_stream_duration``. A shorter one that a client of gRPC asks for is what the app is
    told, too; to HTTP ``grpc-timeout`` is a header like any other."""
    longest = {"max_stream_duration": seconds(stream_seconds)}
    return longest | ({"grpc_timeout_header_max": seconds(stream_seconds)} if grpc else {})


def _permissions(door: Door) -> dict[str, Json]:
    """By grant; identity alone allows whatever HTTP can say."""
    if not door.grants:
        return {"identity": rbac.ANY}
    allowed = rbac.grants(door.grants, door.at)
    for grant in door.grants if door.routes else ():
        taking = [route for route in door.routes if str(grant) in _granted_by(route)]
        refused = [
            *path_matchers.never(door.routes),
            *path_matchers.refused_slashes(door.routes, taking),
        ]
        rules = [allowed[str(grant)], *map(path_matchers.denied, refused)]
        allowed[str(grant)] = {"and_rules": {"rules": rules}} if refused else rules[0]
    return allowed


def _granted_by(route: Route) -> set[str]:
    return {str(HTTPGrant(method, route.target_path)) for method in route.methods}


def _removed(door: Door) -> list[str]:
    """What Envoy itself wrote in between, as that a client is on loopback."""
    scheme = [] if door.caller == GATEWAY else ["x-forwarded-proto"]
    return [CODING_HEADER, "x-envoy-internal", *scheme]
