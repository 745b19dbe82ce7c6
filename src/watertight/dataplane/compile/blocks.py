"""Small pieces of Envoy's JSON that every other module of the compiler builds with.

Everything with a type in it (``@type``) is made anew by a function, never a shared constant:
protobuf's JSON parser takes ``@type`` out of the object that it reads, for as long as it reads.

Field names are those of Envoy's API v3 (https://www.envoyproxy.io/docs/envoy/v1.40.0/api-v3/api).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

Json: TypeAlias = dict[str, Any]

ADS: Mapping[str, Any] = {"ads": {}, "resource_api_version": "V3"}
"""'Ask the stream that you already have': RDS, SDS and ECDS all travel by ADS."""

APP_ADDRESS = "127.0.0.1"
"""An app binds loopback only; its Envoy meets it there."""

UNBOUNDED = 65_536
"""Above every real count: Envoy's own limit of 1,024 connections a cluster would refuse the
1,025th connection of a healthy app. The overload manager is what bounds a proxy."""

CONNECTION_BUFFER_BYTES = 32_768
"""Above it a side of a connection is not read before the other one has taken something. Envoy's own
1 MiB times all that a caller may open, and never read, is more memory than a host has; this costs
a tenth more processor time for large answers, and 16 KiB a third."""
UNSENT_BYTES = 65_536
"""The kernel's part of it: what waits in a TCP socket beyond what the peer makes room for. By
itself that grows to 4 MiB a connection, of memory that all of the host shares (tcp(7))."""
_IPPROTO_TCP, _TCP_NOTSENT_LOWAT = 6, 25

BACKLOG = 4096
"""Connections that may wait to be taken. Envoy's 128 are fewer than one busy caller opens at once,
and on a Unix socket one more is refused, not delayed."""

TAKEN_A_TURN = 1
"""Connections that a listener takes before all others have had their turn. By default Envoy takes
all that wait, and does all their handshakes at once: one caller's burst kept the others waiting
until it was through."""


def typed(kind: str, /, **fields: Any) -> Json:
    """An ``Any``: a message of the type ``envoy.<kind>``."""
    return {"@type": f"type.googleapis.com/envoy.{kind}", **fields}


def extension(name: str, kind: str, /, **fields: Any) -> Json:
    """A named extension with its typed configuration."""
    return {"name": name, "typed_config": typed(kind, **fields)}


def seconds(amount: float) -> str:
    """A ``Duration`` in the JSON form of proto3: ``2s``, ``0.25s``."""
    return f"{amount:.6f}".rstrip("0").rstrip(".") + "s"


def _unsent() -> Json:
    """What a connection has of the listener that took it (tcp(7), TCP_NOTSENT_LOWAT)."""
    return {
        "level": _IPPROTO_TCP,
        "name": _TCP_NOTSENT_LOWAT,
        "int_value": UNSENT_BYTES,
        "state": "STATE_PREBIND",
    }


def tcp_address(address: str, port: int) -> Json:
    """A TCP socket."""
    return {"socket_address": {"address": address, "port_value": port}}


def pipe_address(path: Path, mode: int | None = None) -> Json:
    """A Unix socket; ``mode`` only where we listen on it."""
    return {"pipe": {"path": str(path)} | ({} if mode is None else {"mode": mode})}


def endpoint(cluster: str, address: Json) -> Json:
    """The one endpoint of a static cluster."""
    return {
        "cluster_name": cluster,
        "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
    }


def cluster(
    name: str,
    address: Json,
    *,
    connect_timeout_seconds: float = 1.0,
    max_requests: int = UNBOUNDED,
    **rest: Any,
) -> Json:
    """A static cluster of one endpoint, without Envoy's accidental limits."""
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": seconds(connect_timeout_seconds),
        "per_connection_buffer_limit_bytes": CONNECTION_BUFFER_BYTES,
        "load_assignment": endpoint(name, address),
        "circuit_breakers": {
            "thresholds": [
                {
                    "max_connections": UNBOUNDED,
                    "max_pending_requests": UNBOUNDED,
                    "max_requests": max_requests,
                    "max_retries": UNBOUNDED,
                }
            ]
        },
        **rest,
    }


def http_protocol(
    version: str,
    options: Json | None = None,
    *,
    idle_seconds: float,
    http_filters: Sequence[Json] = (),
    **common: Any,
) -> Json:
    """``typed_extension_protocol_options`` of a cluster that speaks exactly this HTTP version.

    ``version`` is ``http`` (HTTP/1.1) or ``http2``; ``common`` goes into the options of both.
    """
    key = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    return {
        key: typed(
            "extensions.upstreams.http.v3.HttpProtocolOptions",
            common_http_protocol_options={"idle_timeout": seconds(idle_seconds), **common},
            explicit_http_config={f"{version}_protocol_options": options or {}},
            **({"http_filters": list(http_filters)} if http_filters else {}),
        )
    }


def listener(name: str, address: Json, filters: Sequence[Json], **rest: Any) -> Json:
    """A listener with one filter chain; ``transport_socket`` goes into the chain."""
    chain: Json = {"filters": list(filters)}
    for key in ("transport_socket", "transport_socket_connect_timeout"):
        if key in rest:
            chain[key] = rest.pop(key)
    return {
        "name": name,
        "address": address,
        "filter_chains": [chain],
        **({"socket_options": [_unsent()]} if "socket_address" in address else {}),
        "tcp_backlog_size": BACKLOG,
        "per_connection_buffer_limit_bytes": CONNECTION_BUFFER_BYTES,
        "max_connections_to_accept_per_socket_event": TAKEN_A_TURN,
        **rest,
    }
