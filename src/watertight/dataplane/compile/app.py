"""The ways from a callee's proxy to the app beside it.

An app that leaves a request's body unread takes it for the next request on its connection, whoever
sent that body. So a request that has a body goes on a connection of its own, and says so: the app
closes it after the answer and reads no further. Others go alone as well: an upgrade, behind which
bytes follow that are no HTTP; HEAD, since an app that answers it with a body would speak into the
next request's answer; and each method that is not safe, since what is sent on a connection that the
app is just closing is lost, and only what is safe may be sent again. All else shares connections
(docs/adr/0008).

gRPC needs none of that, for frames end where they end. But what one HTTP/2 connection has, all its
streams share: its window, and a server's patience, which ends with GOAWAY for everybody on it. So
there each connection that a peer opens to us has one of its own to the app (docs/adr/0020).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from watertight.dataplane.compile import upgrades
from watertight.dataplane.compile.blocks import (
    APP_ADDRESS,
    Json,
    cluster,
    http_protocol,
    tcp_address,
)
from watertight.dataplane.compile.headers import CODING_HEADER, overwrite
from watertight.dataplane.compile.http import MAX_HEADERS, POOLED_HTTP2
from watertight.model.system import Listen, Protocol

SHARED = "app"
ALONE = "app|alone"
"""The same app, with one request a connection."""
UPGRADES = "app|upgrades"
"""Likewise, for what asks for an upgrade (:mod:`.upgrades`)."""
SAFE = "GET|HEAD|OPTIONS"
"""RFC 9110 section 9.2.1; QUERY, REPORT and their like are rare, and come with a body."""
IDLE_SECONDS = 1.0
"""Below the keep-alive of every common server (gunicorn's is 2 s), so that we never send a
request into a connection that the app is just closing."""
CONNECT_SECONDS = 10.0
"""An app that is not there refuses at once. One whose queue of connections is full (Python's
``http.server`` has five places) makes the kernel drop the SYN and send it again after 1, 3 and 7 s:
who gives up before loses a request that the app would have taken."""


@dataclass(frozen=True, slots=True)
class Way:
    """A route to the app: which requests, by which cluster, with what added."""

    cluster: str
    headers: Callable[[], list[Json]]
    """``headers`` of the route's match: all must fit."""
    closes: bool = True
    """Whether the app is told that this is the last request of its connection."""
    again: bool = False
    """Whether a request is sent once more whose connection ended before any answer: the app was
    closing it, or has crashed (RFC 9110 section 9.2.2)."""

    def adds(self) -> list[Json]:
        """``request_headers_to_add``."""
        if self.cluster == UPGRADES:
            return [overwrite("upgrade", upgrades.NAMELESS), upgrades.alone()]
        return [overwrite("connection", "close")] if self.closes else []


def _has_length() -> list[Json]:
    none = {"safe_regex": {"regex": "0+"}}
    return [
        {"name": "content-length", "present_match": True},
        {"name": "content-length", "string_match": none, "invert_match": True},
    ]


def _is_chunked() -> list[Json]:
    return [{"name": CODING_HEADER, "present_match": True}]


def _upgrades() -> list[Json]:
    return [{"name": "upgrade", "present_match": True}]


def _asks_for_no_body() -> list[Json]:
    return [{"name": ":method", "string_match": {"exact": "HEAD"}}]


def _is_not_safe() -> list[Json]:
    safe = {"safe_regex": {"regex": SAFE}}
    return [{"name": ":method", "string_match": safe, "invert_match": True}]


WAYS = (
    Way(ALONE, _has_length),
    Way(ALONE, _is_chunked),
    Way(UPGRADES, _upgrades, closes=False),
    Way(ALONE, _asks_for_no_body),
    Way(ALONE, _is_not_safe),
    Way(SHARED, list, closes=False, again=True),
)
"""In the order in which they are tried."""


def clusters(listens: Listen) -> list[Json]:
    """Those that all doors of a callee share."""
    if listens.protocol is Protocol.TCP:
        there = tcp_address(APP_ADDRESS, listens.port)
        return [cluster(SHARED, there, connect_timeout_seconds=CONNECT_SECONDS)]
    if listens.protocol is Protocol.GRPC:
        body = _cluster(SHARED, listens, "http2", POOLED_HTTP2)
        return [body | {"connection_pool_per_downstream_connection": True}]
    # Of an answer with a length and chunks, the chunks count, and the length is taken away (RFC
    # 9112 section 6.3). A request like that is refused at the door.
    options = {"enable_trailers": True, "allow_chunked_length": True}
    return [
        _cluster(SHARED, listens, "http", options),
        _cluster(ALONE, listens, "http", options, max_requests_per_connection=1),
        _cluster(
            UPGRADES,
            listens,
            "http",
            options,
            max_requests_per_connection=1,
            http_filters=upgrades.towards_app(),
        ),
    ]


def _cluster(name: str, listens: Listen, version: str, options: Json, **common: Any) -> Json:
    return cluster(
        name,
        tcp_address(APP_ADDRESS, listens.port),
        connect_timeout_seconds=CONNECT_SECONDS,
        typed_extension_protocol_options=http_protocol(
            version, options, idle_seconds=IDLE_SECONDS, max_headers_count=MAX_HEADERS, **common
        ),
    )
