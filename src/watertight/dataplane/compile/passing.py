"""Bytes passed through, parsed by nobody: ``tcp`` channels, and those to databases and brokers."""

from typing import Any

from watertight.dataplane.compile import app, rbac, retries
from watertight.dataplane.compile.blocks import Json, extension, seconds, typed
from watertight.dataplane.compile.lifetimes import Lifetimes

CONNECT_ATTEMPTS = 15
"""With the back-off about 3 s: a callee's Envoy restarts, or its door is made anew, and no new
connection is lost. No longer: what drivers wait for a connection is often five."""
EARLY_BYTES = 65_536
"""What a client may send before we have reached its callee."""


MOST_CONNECTIONS = 2_000
"""At once at one door, of the 10,000 that a proxy takes in all (bootstrap.MAX_CONNECTIONS): no
caller alone can keep the others out, nor fill the memory of the callee's proxy, for one whose
answer nobody reads takes up to half a MiB of that (docs/adr/0028)."""


def bound(name: str, most: int = MOST_CONNECTIONS) -> Json:
    """A filter that ends each connection above so many as it begins, before any handshake."""
    return extension(
        "envoy.filters.network.connection_limit",
        "extensions.filters.network.connection_limit.v3.ConnectionLimit",
        stat_prefix=name,
        max_connections=most,
    )


def proxy(name: str, to: str, **rest: Any) -> Json:
    """A filter that passes a connection on to a cluster. A silent connection is none to cut."""
    return extension(
        "envoy.filters.network.tcp_proxy",
        "extensions.filters.network.tcp_proxy.v3.TcpProxy",
        stat_prefix=name,
        cluster=to,
        idle_timeout="0s",
        max_connect_attempts=CONNECT_ATTEMPTS,
        backoff_options=retries.BACK_OFF,
        **rest,
    )


def to_app(name: str, peer: str, lives: Lifetimes) -> list[Json]:
    """The filters of a ``tcp`` callee's door, behind TLS that asks for its one caller.

    The app is not even connected to before the handshake. As a network filter RBAC judges at the
    peer's first byte: a certificate with two names, one of them right, which no authority of ours
    signs, could hear an app that speaks first; but not be heard by it.
    """
    return [
        _remember_peer(),
        extension(
            "envoy.filters.network.rbac",
            "extensions.filters.network.rbac.v3.RBAC",
            stat_prefix=name,
            rules={
                "action": "ALLOW",
                "policies": {
                    "identity": {"permissions": [rbac.ANY], "principals": [rbac.peer(peer)]}
                },
            },
        ),
        proxy(
            name,
            app.SHARED,
            upstream_connect_mode="ON_DOWNSTREAM_TLS_HANDSHAKE",
            max_early_data_bytes=EARLY_BYTES,
            max_downstream_connection_duration=seconds(lives.passed),
        ),
    ]


def _remember_peer() -> Json:
    """As a ``TypedStruct``, because the published Python protos are older than this field."""
    return {
        "name": "envoy.filters.network.set_filter_state",
        "typed_config": {
            "@type": "type.googleapis.com/xds.type.v3.TypedStruct",
            "type_url": typed("extensions.filters.network.set_filter_state.v3.Config")["@type"],
            "value": {"on_downstream_tls_handshake": [rbac.peer_state()]},
        },
    }
