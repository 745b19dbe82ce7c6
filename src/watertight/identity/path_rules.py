"""What RFC 5280 asks of a path and the library's validation does not.

Each rule is a named check; that the library lets these through is measured on public vectors
(``tests/identity/test_limbo.py``).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from watertight.identity.errors import UntrustedChain

MIN_RSA_BITS = 2048
MIN_EC_BITS = 256


@dataclass(frozen=True, slots=True)
class PathCheck:
    """One rule. ``run`` looks at the certificate at a position of the path (0 is the leaf)."""

    name: str
    source: str
    run: Callable[[Sequence[x509.Certificate], int], bool]
    """Whether the rule is kept."""


def check_path(path: Sequence[x509.Certificate]) -> None:
    """Raises ``UntrustedChain`` if a certificate of a validated path (leaf first) breaks a rule."""
    for position, certificate in enumerate(path):
        for check in PATH_CHECKS:
            if not check.run(path, position):
                subject = certificate.subject.rfc4514_string()
                raise UntrustedChain(
                    f"The certificate of {subject!r} breaks {check.name} ({check.source})."
                )


def _extension(certificate: x509.Certificate, kind: type[x509.ExtensionType]) -> (
    x509.Extension[x509.ExtensionType] | None
):  # fmt: skip
    return next((e for e in certificate.extensions if e.oid == kind.oid), None)


def _is_anchor(path: Sequence[x509.Certificate], position: int) -> bool:
    # Trusted as it stands (RFC 5280 section 6.1): not every rule is asked of it.
    return position == len(path) - 1


def _key_identifier_links(path: Sequence[x509.Certificate], position: int) -> bool:
    if _is_anchor(path, position):
        return True
    found = _extension(path[position], x509.AuthorityKeyIdentifier)
    return (
        found is not None
        and isinstance(found.value, x509.AuthorityKeyIdentifier)
        and found.value.key_identifier is not None
    )


def _root_points_at_itself(path: Sequence[x509.Certificate], position: int) -> bool:
    found = _extension(path[position], x509.AuthorityKeyIdentifier)
    self_issued = path[position].subject == path[position].issuer
    if not _is_anchor(path, position) or not self_issued or found is None:
        return True
    own = _extension(path[position], x509.SubjectKeyIdentifier)
    value = found.value
    return (
        isinstance(value, x509.AuthorityKeyIdentifier)
        and value.authority_cert_issuer is None
        and value.authority_cert_serial_number is None
        and own is not None
        and isinstance(own.value, x509.SubjectKeyIdentifier)
        and value.key_identifier == own.value.digest
    )


def _ca_has_a_key_identifier(path: Sequence[x509.Certificate], position: int) -> bool:
    return position == 0 or _extension(path[position], x509.SubjectKeyIdentifier) is not None


def _constraints_are_critical(path: Sequence[x509.Certificate], position: int) -> bool:
    found = (
        _extension(path[position], kind) for kind in (x509.NameConstraints, x509.PolicyConstraints)
    )
    return all(extension is None or extension.critical for extension in found)


def _serial_is_positive(path: Sequence[x509.Certificate], position: int) -> bool:
    return _is_anchor(path, position) or path[position].serial_number > 0


def _usage_is_not_any(path: Sequence[x509.Certificate], position: int) -> bool:
    found = _extension(path[position], x509.ExtendedKeyUsage)
    if position > 0 or found is None:
        return True
    return (
        isinstance(found.value, x509.ExtendedKeyUsage)
        and ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE not in found.value
    )


def _key_is_strong(path: Sequence[x509.Certificate], position: int) -> bool:
    key = path[position].public_key()
    if isinstance(key, rsa.RSAPublicKey):
        return key.key_size >= MIN_RSA_BITS and key.key_size % 8 == 0
    if isinstance(key, ec.EllipticCurvePublicKey):
        return key.key_size >= MIN_EC_BITS
    return isinstance(key, ed25519.Ed25519PublicKey)


PATH_CHECKS: tuple[PathCheck, ...] = (
    PathCheck("key-identifier-links", "RFC 5280 section 4.2.1.1", _key_identifier_links),
    PathCheck("root-points-at-itself", "RFC 5280 section 4.2.1.1", _root_points_at_itself),
    PathCheck("ca-has-a-key-identifier", "RFC 5280 section 4.2.1.2", _ca_has_a_key_identifier),
    PathCheck("constraints-are-critical", "RFC 5280 section 4.2.1.10", _constraints_are_critical),
    PathCheck("serial-is-positive", "RFC 5280 section 4.1.2.2", _serial_is_positive),
    PathCheck("usage-is-not-any", "CA/B Baseline Requirements 7.1.2.7.10", _usage_is_not_any),
    PathCheck("key-is-strong", "CA/B Baseline Requirements 6.1.5", _key_is_strong),
)
