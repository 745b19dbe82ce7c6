"""An X.509-SVID and a trust bundle as values: as the authority hands them out."""

import datetime as dt
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives import serialization

PEM = serialization.Encoding.PEM
DER = serialization.Encoding.DER


@dataclass(frozen=True, slots=True)
class X509SVID:
    """A certificate chain (leaf first, then intermediates, never the root) and its private key.

    ``private_key_der`` is unencrypted PKCS#8 DER (SPIFFE Workload API section 5.2.1); it never
    shows in ``repr``.
    """

    spiffe_id: str
    chain: tuple[x509.Certificate, ...]
    private_key_der: bytes = field(repr=False)

    @property
    def leaf(self) -> x509.Certificate:
        """The certificate that names the workload."""
        return self.chain[0]

    @property
    def expires_at(self) -> dt.datetime:
        """When the leaf ends (UTC, aware)."""
        return self.leaf.not_valid_after_utc

    def is_valid_at(self, moment: dt.datetime) -> bool:
        """Whether every certificate of the chain is within its dates (``moment``: aware)."""
        return all(c.not_valid_before_utc <= moment < c.not_valid_after_utc for c in self.chain)

    def chain_pem(self) -> bytes:
        """The chain as concatenated PEM, leaf first."""
        return b"".join(c.public_bytes(PEM) for c in self.chain)

    def chain_der(self) -> bytes:
        """The chain as concatenated DER, leaf first (the Workload API's encoding)."""
        return b"".join(c.public_bytes(DER) for c in self.chain)

    def private_key_pem(self) -> bytes:
        """The key as PKCS#8 PEM."""
        key = serialization.load_der_private_key(self.private_key_der, password=None)
        return key.private_bytes(
            PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )


@dataclass(frozen=True, slots=True)
class TrustBundle:
    """The roots of one trust domain (SPIFFE Trust Domain and Bundle section 3): roots only."""

    trust_domain: str
    authorities: tuple[x509.Certificate, ...]
    sequence: int = 1

    def pem(self) -> bytes:
        """All roots as concatenated PEM."""
        return b"".join(c.public_bytes(PEM) for c in self.authorities)

    def der(self) -> bytes:
        """All roots as concatenated DER (the Workload API's encoding)."""
        return b"".join(c.public_bytes(DER) for c in self.authorities)
