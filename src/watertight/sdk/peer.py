"""TLS as a client of exactly one server: who must be there is part of the context.

Drivers know host names. A SPIFFE ID they do not know, so the check is where no driver can leave it
out: the end of each handshake. The server must have a chain to a root of our bundle (no system
store is consulted), the DNS name that was declared, and exactly one URI SAN: its SPIFFE ID.
"""

import ssl
from pathlib import Path
from typing import Any, Self


class WrongServer(ssl.SSLCertVerificationError):
    """The server's certificate is one of ours, but somebody else's.

    An ``ssl`` error, so that every driver treats it as the failed handshake that it is.
    """


class PeerContext(ssl.SSLContext):
    """A client context of one credential set, for one server."""

    spiffe_id: str

    @classmethod
    def load(cls, directory: Path, spiffe_id: str) -> Self:
        """The context of the files in ``directory``, for the server ``spiffe_id``.

        Raises ``OSError`` if a file is not there, ``ssl.SSLError`` if they do not match.
        """
        context = cls(ssl.PROTOCOL_TLS_CLIENT)
        context.spiffe_id = spiffe_id
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        context.hostname_checks_common_name = False  # RFC 9525 section 2: a CN is no host name.
        context.sslobject_class = _PeerObject
        context.sslsocket_class = _PeerSocket
        context.load_verify_locations(directory / "bundle.pem")
        # The password is never asked for on a terminal: an encrypted key is an error.
        context.load_cert_chain(
            directory / "certificate.pem", directory / "private_key.pem", password=""
        )
        return context


class _PeerObject(ssl.SSLObject):
    """What asyncio speaks TLS through."""

    def do_handshake(self) -> None:
        super().do_handshake()
        _require(self)


class _PeerSocket(ssl.SSLSocket):
    """What blocking code speaks TLS through."""

    def do_handshake(self, block: bool = False) -> None:
        super().do_handshake(block)
        _require(self)


def _require(connection: ssl.SSLObject | ssl.SSLSocket) -> None:
    context = connection.context
    if not isinstance(context, PeerContext):  # Nobody may swap the context in a handshake.
        raise WrongServer(1, "the TLS context is not the channel's")
    certificate: dict[str, Any] = connection.getpeercert() or {}
    names = [value for kind, value in certificate.get("subjectAltName", ()) if kind == "URI"]
    if names != [context.spiffe_id]:
        found = ", ".join(names) or "nobody"
        raise WrongServer(1, f"the server is {found}, not {context.spiffe_id}")
