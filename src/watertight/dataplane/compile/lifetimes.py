"""How long connections and streams between proxies may live, derived from the SVID's TTL.

A handshake proves who the peer is *now*; nothing proves it later on the same connection. So no
connection, with the last stream that was opened on it, lives longer than one TTL.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """All in seconds, counted from the handshake but for ``stream``."""

    pool: float
    """After this the caller's proxy opens no new stream on a pooled connection.

    Earlier than ``connection``, so that the side which would send is the one that stops: no request
    ever meets a connection that is just being closed.
    """
    connection: float
    """After this the callee asks a pooled connection to end."""
    drain: float
    """After ``connection`` and this it takes no new stream; its streams go on."""
    stream: float
    """After this one request, its answer's tail included, on a pooled connection is cut."""
    passed: float
    """After this a ``tcp`` connection is cut: it is its own handshake, and nothing is opened
    on it later."""


def lifetimes(svid_ttl_seconds: float) -> Lifetimes:
    """A quarter of the TTL for the connection (a handshake is cheap), the rest for its streams."""
    return Lifetimes(
        pool=svid_ttl_seconds * 0.2,
        connection=svid_ttl_seconds * 0.23,
        drain=svid_ttl_seconds * 0.02,
        stream=svid_ttl_seconds * 0.75,
        passed=svid_ttl_seconds,
    )
