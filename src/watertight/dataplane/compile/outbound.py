"""The caller's side: a loopback address for each callee, and the mTLS connections behind it."""

from watertight.dataplane.compile import logs, passing, retries, tls
from watertight.dataplane.compile.blocks import (
    Json,
    cluster,
    http_protocol,
    listener,
    pipe_address,
    seconds,
    tcp_address,
)
from watertight.dataplane.compile.callee import callee
from watertight.dataplane.compile.headers import UNSEEN_HEADER
from watertight.dataplane.compile.http import (
    MAX_HEADERS,
    MOST_STREAMS,
    NO_HOST,
    POOLED_HTTP2,
    manager,
    refusal,
    router,
)
from watertight.dataplane.compile.lifetimes import lifetimes
from watertight.dataplane.compile.upgrades import towards_callee
from watertight.dataplane.resources import Resource, ResourceType
from watertight.model.addresses import callee_addresses
from watertight.model.placement import Placement
from watertight.model.system import GATEWAY, Channel, Protocol, System

POOL_IDLE_SECONDS = 45.0
"""Below what a callee waits, so that the side which might still send is the one to close."""


def name(callee_name: str) -> str:
    """Of the listener, the cluster and the route configuration that lead to a callee."""
    return f"out|{callee_name}"


def peer_clusters(
    system: System, placement: Placement, caller: str, target: str, speaks: Protocol
) -> list[Json]:
    """The mTLS connections from ``caller`` to ``target``'s door for it; pooled, but for TCP.

    Those that carry an upgrade are apart: they end in another way (:mod:`.inbound`). The gateway's
    clients share its identity but no HTTP/2 connection (docs/adr/0020): a callee's Envoy closes one
    on which many streams are reset, whoever else has streams on it.
    """
    apart = caller == GATEWAY and speaks is Protocol.GRPC
    alpn = {name(target): tls.ALPN[speaks]}
    if speaks is Protocol.HTTP:
        alpn[upgrades(target)] = (tls.UPGRADES,)
    return [
        cluster(
            called,
            pipe_address(placement.door(target, caller)),
            transport_socket=tls.connect(system.spiffe_id(target), target, said),
            **_pool(placement, speaks, upgrades=called != name(target)),
            **({"connection_pool_per_downstream_connection": True} if apart else {}),
            **({"max_requests": MOST_STREAMS} if speaks is Protocol.GRPC else {}),
        )
        for called, said in alpn.items()
    ]


def upgrades(callee_name: str) -> str:
    """Of the cluster that leads to an HTTP callee for what asks for an upgrade."""
    return f"{name(callee_name)}|upgrades"


UPGRADE: Json = {"name": "upgrade", "present_match": True}
"""Matches a request that asks for one."""


def _pool(placement: Placement, speaks: Protocol, *, upgrades: bool) -> Json:
    if speaks is Protocol.TCP:
        return {}
    http2 = {**POOLED_HTTP2, "connection_keepalive": {"interval": "30s", "timeout": "5s"}}
    version, options = (
        ("http2", http2) if speaks is Protocol.GRPC else ("http", {"enable_trailers": True})
    )
    return {
        "typed_extension_protocol_options": http_protocol(
            version,
            options,
            idle_seconds=POOL_IDLE_SECONDS,
            http_filters=towards_callee() if upgrades else (),
            max_connection_duration=seconds(lifetimes(placement.svid_ttl_seconds).pool),
            max_headers_count=MAX_HEADERS,
        )
    }


def resources(system: System, placement: Placement, channel: Channel) -> list[Resource]:
    """Everything of one channel in the caller's proxy."""
    listens = callee(system, channel)
    speaks = listens.protocol
    addresses = callee_addresses(system, channel.source, shared_network=placement.shared_network)
    address = tcp_address(addresses[channel.target], listens.port)
    there = name(channel.target)
    made = [
        (ResourceType.CLUSTER, body)
        for body in peer_clusters(system, placement, channel.source, channel.target, speaks)
    ]
    if speaks is Protocol.TCP:
        made += [(ResourceType.LISTENER, listener(there, address, [passing.proxy(there, there)]))]
    else:
        parsed = _manager(channel, speaks)
        made += [
            (ResourceType.LISTENER, listener(there, address, [parsed])),
            (ResourceType.ROUTE, _routes(channel, speaks)),
        ]
    return [Resource(kind, body["name"], body, channel.at) for kind, body in made]


def _manager(channel: Channel, speaks: Protocol) -> Json:
    there = name(channel.target)
    return manager(
        there,
        "HTTP2" if speaks is Protocol.GRPC else "HTTP1",
        [router(silent=True)],
        upgrade_configs=[{"upgrade_type": "websocket"}],
        # As the app wrote it: one proxy resolves the path, and it is the one that judges it.
        normalize_path=False,
        merge_slashes=False,
        # What is closed is written to its end first, however slowly the app reads it.
        delayed_close_timeout="0s",
        access_log=logs.requests(there),
        local_reply_config={"mappers": [retries.too_long()]},
    )


def _routes(channel: Channel, speaks: Protocol) -> Json:
    routes = [refusal(NO_HOST, 400)]
    if speaks is Protocol.HTTP:
        match = {"prefix": "/", "headers": [dict(UPGRADE)]}
        routes += [_route(channel, match, upgrades(channel.target))]
    routes += [_route(channel, {"prefix": "/"}, name(channel.target))]
    return {
        "name": name(channel.target),
        "virtual_hosts": [{"name": channel.target, "domains": ["*"], "routes": routes}],
    }


def _route(channel: Channel, match: Json, to: str) -> Json:
    """The declared timeout bounds all tries together; where none is declared, none holds."""
    return {
        "match": match,
        "route": {
            "cluster": to,
            "timeout": seconds(channel.timeout_seconds or 0),
            "idle_timeout": "0s",
            "retry_policy": retries.by_caller(),
        },
        "response_headers_to_remove": [UNSEEN_HEADER],
    }
