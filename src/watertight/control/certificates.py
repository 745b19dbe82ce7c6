"""The gateway's HTTPS certificate where the declaration names files for it."""

import base64
import datetime as dt
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from watertight.errors import WatertightError
from watertight.model.system import Gateway

MATCHING_PAIR = "Put a matching pair there, or leave both out to use our authority."


class CertificateRefused(WatertightError):
    """The declared certificate and key cannot be served: ``why``, in words of their own."""

    def __init__(self, message: str, *, remedy: str, why: str) -> None:
        super().__init__(message, remedy=remedy)
        self.why = why


class GatewayCertificate:
    """A PEM chain and its key, read and checked as a pair before a proxy sees them."""

    def __init__(self, gateway: Gateway, chain_file: Path, key_file: Path) -> None:
        """Reads the pair. Raises :class:`CertificateRefused`."""
        self._at = gateway.at
        self._hostname = gateway.hostname
        self._chain_file = chain_file
        self._key_file = key_file
        self._pair = self._read()

    @classmethod
    def declared(cls, gateway: Gateway | None, project_directory: Path) -> Self | None:
        """The pair that the declaration names; None if our own authority is to issue one."""
        if gateway is None or gateway.certificate is None or gateway.private_key is None:
            return None
        chain, key = gateway.certificate, gateway.private_key
        return cls(gateway, project_directory / chain, project_directory / key)

    def secret(self) -> Mapping[str, Any]:
        """The body of an Envoy ``Secret``."""
        chain, key = self._pair
        return {
            "tls_certificate": {
                "certificate_chain": {"inline_bytes": base64.b64encode(chain).decode()},
                "private_key": {"inline_bytes": base64.b64encode(key).decode()},
            }
        }

    def reload(self) -> bool:
        """Reads the files again; whether they changed. A bad new pair leaves the old in force.

        Raises :class:`CertificateRefused` if the new pair cannot be served.
        """
        old, self._pair = self._pair, self._read()
        return old != self._pair

    def _read(self) -> tuple[bytes, bytes]:
        try:
            chain, key = self._chain_file.read_bytes(), self._key_file.read_bytes()
            leaf = x509.load_pem_x509_certificates(chain)[0]
            private = load_pem_private_key(key, password=None)
        except OSError as error:
            raise self._refuse(f"{error.filename} cannot be read: {error.strerror}") from error
        except (ValueError, TypeError, IndexError) as error:
            raise self._refuse("they are not an unencrypted PEM pair") from error
        if _spki(leaf.public_key()) != _spki(private.public_key()):
            raise self._refuse("the key is not the certificate's")
        if leaf.not_valid_after_utc <= dt.datetime.now(dt.UTC):
            raise self._refuse(f"it ended at {leaf.not_valid_after_utc:%Y-%m-%d %H:%M} UTC")
        if not _names(leaf, self._hostname):
            raise self._refuse(f"it does not name {self._hostname}")
        return chain, key

    def _refuse(self, why: str) -> CertificateRefused:
        return CertificateRefused(
            f"{self._at}: the gateway's certificate {self._chain_file.name} with "
            f"{self._key_file.name} cannot be served: {why}.",
            remedy=MATCHING_PAIR,
            why=why,
        )


def _spki(key: Any) -> bytes:
    encoded: bytes = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return encoded


def _names(leaf: x509.Certificate, hostname: str) -> bool:
    """RFC 9525 section 6.3: DNS names only, a wildcard for the whole first label only."""
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return False
    wildcard = "*." + hostname.partition(".")[2]
    return any(
        name.lower() in (hostname, wildcard) for name in names.get_values_for_type(x509.DNSName)
    )
