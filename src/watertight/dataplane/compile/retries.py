"""When a request is tried again, and by whom: each proxy repeats what it alone can judge.

The callee's proxy stands beside the app. It repeats what the app may be asked twice: what is safe,
and what the channel's ``retries`` declare. It does so a few times, and soon: the app was there.

The caller's proxy repeats what the app has not seen at all, whatever the method, for some seconds:
the callee's proxy is not there, or says that the app is not (:data:`UNSEEN_HEADER`), because it is
just starting again. Two counters, since an app that ends a connection at each GET must not be asked
as often as one that is not there (docs/adr/0034).
"""

from watertight.dataplane.compile.blocks import Json
from watertight.dataplane.compile.conditions import details
from watertight.dataplane.compile.headers import UNSEEN_HEADER, overwrite
from watertight.model.system import Protocol

REFUSED = "connect-failure"
UNREAD = "refused-stream,reset-before-request"
"""When a request may be tried again whatever its method: nobody has seen anything of it. That the
app refuses a connection is for the caller's proxy to wait out, which has all of a body still."""
UNSEEN_TRIES = 36
"""Of a request that no app has seen. With the back-off some 8 s: an app or a callee's Envoy starts
again, or a door is made anew. A program has five seconds to end, in which it may listen no more
and go on working; longer than need be, and the callers of a dead one would pile up."""
BACK_OFF = {"base_interval": "0.05s", "max_interval": "0.5s"}
SENT = "%UPSTREAM_WIRE_BYTES_SENT%"
"""In all tries, also one before the last."""
SAFE_TRIES = 2
"""Of a request that the app may have seen, and may see again (RFC 9110 section 9.2.2)."""
IDEMPOTENT = "GET|HEAD|OPTIONS|TRACE|PUT|DELETE"
"""RFC 9110 section 9.2.2."""


def by_caller() -> Json:
    """``retry_policy`` of each route towards a callee's door. A declared timeout bounds it all."""
    return {
        "retry_on": f"{REFUSED},{UNREAD},retriable-headers",
        "retriable_headers": [{"name": UNSEEN_HEADER, "string_match": {"exact": "0"}}],
        "num_retries": UNSEEN_TRIES,
        "retry_back_off": BACK_OFF,
    }


def too_long() -> Json:
    """In ``local_reply_config``: a proxy keeps of a body only what a connection's buffer holds.

    Of what it would send again and has not kept Envoy says 507; it is 503, as for any other.
    """
    return {"filter": details("request_payload_exceeded_retry_buffer_limit"), "status_code": 503}


def by_callee(speaks: Protocol, declared: int, *, safe: bool) -> Json:
    """``retry_policy`` of a route from a door to the app; ``safe``: of requests that may be seen
    twice.

    A gRPC ``UNAVAILABLE`` is retried as gRPC clients do by convention; no gRPC method says whether
    it is idempotent, and whoever declares retries for a service takes that upon himself.
    """
    if declared and speaks is Protocol.GRPC:
        return _soon(f"unavailable,{UNREAD}", declared)
    if declared:
        method = {"name": ":method", "string_match": {"safe_regex": {"regex": IDEMPOTENT}}}
        return {**_soon(f"5xx,reset,{UNREAD}", declared), "retriable_request_headers": [method]}
    return _soon(f"{UNREAD},reset" if safe else UNREAD, SAFE_TRIES)


def _soon(retry_on: str, tries: int) -> Json:
    return {
        "retry_on": retry_on,
        "num_retries": tries,
        "retry_back_off": {"base_interval": "0.025s", "max_interval": "0.25s"},
    }


def told_to_caller() -> Json:
    """``local_reply_config`` of a door: that nobody listens where the app should, and how many
    bytes of the request an app has been sent before that. It may have read them, and ended.

    Not where nobody accepts: that was tried for ten seconds (:data:`.app.CONNECT_SECONDS`).
    """
    refused = details("remote_connection_failure")
    return {
        "mappers": [
            {"filter": refused, "headers_to_add": [overwrite(UNSEEN_HEADER, SENT)]},
            too_long(),
        ],
    }
