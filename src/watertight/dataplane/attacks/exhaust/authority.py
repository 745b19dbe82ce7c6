"""Asking the authority for more than it should give: many tokens, and long ones."""

import os
from collections.abc import Iterable, Iterator

from watertight.attack.arena import Arena
from watertight.attack.http2 import HTTP2, connect
from watertight.attack.inside import dial_socket
from watertight.attack.places import idle
from watertight.attack.probe import Observation, Probe, refused, served
from watertight.attack.probe import not_run as cannot
from watertight.dataplane.attacks.make import attack

TOKENS = 100
CALL_SECONDS = 20.0
"""The authority signs for every service that is attacked meanwhile."""
RESOURCE_EXHAUSTED = "8"
"""gRPC status codes."""
LONG_AUDIENCE = "x" * 30_000


def probes(services: Iterable[str]) -> Iterator[Probe]:
    """Two for each service, through its own Workload API."""
    for name in services:
        at = f"{name} -> authority"
        what = f"from inside {name}"
        yield attack("exhaust.tokens", at, f"{TOKENS} JWT-SVIDs at once, {what}", _tokens, name)
        yield attack(
            "exhaust.audience",
            at,
            f"a JWT-SVID for an audience of {len(LONG_AUDIENCE)} bytes, {what}",
            _long_audience,
            name,
        )


async def _tokens(arena: Arena, service: str) -> Observation:
    connection = await _workload_api(arena, service)
    try:
        headers = _headers()
        bodies = [_jwt_request(f"audience-{n}-{os.getpid()}") for n in range(TOKENS)]
        with idle():  # the authority puts calls off for seconds
            statuses = await connection.calls(headers, bodies, status="grpc-status")
    finally:
        await connection.close()
    issued, put_off = statuses.count("0"), statuses.count(RESOURCE_EXHAUSTED)
    if issued == TOKENS:
        return served(f"all {issued} were issued")
    if not issued and len(statuses) == TOKENS:  # a revoked identity gets none at all
        return refused(f"none of {TOKENS} was issued: gRPC status {statuses[0]}")
    if not put_off:
        return cannot(
            f"only {len(statuses)} of {TOKENS} calls were answered, {issued} with a token"
        )
    return refused(f"{issued} of {TOKENS} were issued, {put_off} put off")


async def _long_audience(arena: Arena, service: str) -> Observation:
    connection = await _workload_api(arena, service)
    try:
        statuses = await connection.calls(
            _headers(), [_jwt_request(LONG_AUDIENCE)], status="grpc-status"
        )
    finally:
        await connection.close()
    if not statuses:
        return cannot("it was not answered")
    return served("it was issued") if "0" in statuses else refused(f"gRPC status {statuses[0]}")


async def _workload_api(arena: Arena, service: str) -> HTTP2:
    path = arena.placement.workload_api_socket(service)
    wire = await dial_socket(await arena.inside(service), str(path), timeout_seconds=CALL_SECONDS)
    return await connect(wire, timeout_seconds=CALL_SECONDS)


def _headers() -> list[tuple[str, str]]:
    """Of one call (gRPC over HTTP2, "Requests"; SPIFFE Workload Endpoint, section 5)."""
    return [
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", "localhost"),
        (":path", "/SpiffeWorkloadAPI/FetchJWTSVID"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        ("workload.spiffe.io", "true"),
    ]


def _jwt_request(audience: str) -> bytes:
    """A ``JWTSVIDRequest``, whose first field is the audience, as one gRPC message."""
    text = audience.encode()
    message = b"\x0a" + _varint(len(text)) + text
    return b"\0" + len(message).to_bytes(4, "big") + message


def _varint(number: int) -> bytes:
    """Protocol Buffers, "Encoding"."""
    encoded = b""
    while number > 0x7F:
        encoded += bytes([number & 0x7F | 0x80])
        number >>= 7
    return encoded + bytes([number])
