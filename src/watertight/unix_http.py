"""HTTP over Unix sockets, where there is no TLS.

By default httpx loads every root of the machine for each client, which takes longer than all else
that a command does; here nobody is trusted, for there is nobody to trust.
"""

import ssl
from pathlib import Path

import httpx


def async_transport(socket: Path) -> httpx.AsyncHTTPTransport:
    """For ``httpx.AsyncClient``."""
    return httpx.AsyncHTTPTransport(uds=str(socket), verify=_nobody())


def _nobody() -> ssl.SSLContext:
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
