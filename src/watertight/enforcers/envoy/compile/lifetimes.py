"""How long connections and streams between proxies may live, derived from the SVID's TTL.

A handshake proves who the peer is *now*; nothing proves it later on the same connection. So a
connection, with the last stream that was opened on it, never outlives the TTL of the SVID that
opened it: connection + stream ≤ TTL.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """All in seconds."""

    connection: float
    """After this an mTLS connection takes no new stream; its streams go on."""
    stream: float
    """After this a tunnel, or one request, on an mTLS connection is cut."""
    graceful: float
    """After this HTTP inside a tunnel is asked to end between two requests, before the cut."""


def lifetimes(svid_ttl_seconds: float) -> Lifetimes:
    """A quarter of the TTL for the connection (a handshake is cheap), the rest for its streams."""
    stream = svid_ttl_seconds * 0.75
    return Lifetimes(connection=svid_ttl_seconds * 0.25, stream=stream, graceful=stream * 0.8)
