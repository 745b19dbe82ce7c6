"""Reads what was signed as a stranger would, and refuses it if it breaks a rule of X.509-SVID.

Between signing and handing over stands this module: it sees only bytes and shares no code with
``profiles.py``, so that a mistake there cannot excuse itself here. Each rule is one named check;
its number (X1 to X10) is that of our research notes on SPIFFE's X.509-SVID, and stands in the
refusal. The checks of a certificate alone are also what ``chain.py`` asks of a peer's SVID.
"""

import datetime as dt
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar, cast

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from watertight.identity.errors import CredentialRejected, MalformedSPIFFEID
from watertight.identity.keys import key_type_of
from watertight.identity.spiffe import SPIFFEID

T = TypeVar("T", bound=x509.ExtensionType)

MIN_SERIAL_BITS = 64
"""Of randomness, as the CA/Browser Forum asks; a fresh 159-bit serial falls below once in 2^95."""

MAX_SERIAL_BITS = 159
"""20 octets with a clear sign bit (RFC 5280 section 4.1.2.2)."""

KNOWN_EXTENSIONS = frozenset(
    kind.oid
    for kind in (
        x509.BasicConstraints, x509.KeyUsage, x509.ExtendedKeyUsage, x509.SubjectAlternativeName,
        x509.SubjectKeyIdentifier, x509.AuthorityKeyIdentifier,
    )
)  # fmt: skip


class _Broken(Exception):
    """A check said no; the message is the reason."""


@dataclass(frozen=True, slots=True)
class Intent:
    """What the authority was asked to sign and with what, to hold the signed bytes against."""

    spiffe_id: SPIFFEID
    dns_names: tuple[str, ...]
    organizational_unit: str
    public_key_der: bytes
    """SubjectPublicKeyInfo of the request."""
    issuer: x509.Certificate
    root: x509.Certificate
    now: dt.datetime
    not_after: dt.datetime


@dataclass(frozen=True, slots=True)
class Check:
    """One rule, by number and name. ``run`` raises if it is broken."""

    rule: str
    name: str
    run: Callable[[x509.Certificate], None]


@dataclass(frozen=True, slots=True)
class IntentCheck:
    """One rule that needs to know what was meant."""

    rule: str
    name: str
    run: Callable[[x509.Certificate, Intent], None]


def check_leaf(certificate: x509.Certificate) -> SPIFFEID:
    """The SPIFFE ID of a workload's certificate. Raises ``CredentialRejected``.

    This looks at the certificate alone: whether anybody trusts it is ``chain.py``'s question.
    """
    _run(LEAF_CHECKS, certificate)
    return SPIFFEID.parse(_uris(certificate)[0])


def check_authority(certificate: x509.Certificate) -> None:
    """Raises ``CredentialRejected`` unless this may be a CA certificate of a trust domain."""
    _run(AUTHORITY_CHECKS, certificate)


def check_peer_authority(certificate: x509.Certificate, trust_domain: str) -> None:
    """Raises ``CredentialRejected`` unless a peer's chain may pass through this CA certificate.

    X7 only says SHOULD of its SPIFFE ID: another implementation's CA may have none, but not one
    of a workload or of another trust domain.
    """
    _run(PEER_AUTHORITY_CHECKS, certificate)
    try:
        has_names = bool(_uris(certificate))
    except _Broken:
        has_names = False
    if has_names:
        _run([_NAMES_ITS_TRUST_DOMAIN], certificate)
        if (found := _uris(certificate)[0]) != f"spiffe://{trust_domain}":
            raise CredentialRejected("X7", "is-of-the-same-domain", f"a CA of {found} signed it.")


def check_issued(der: bytes, intent: Intent) -> x509.Certificate:
    """The signed certificate, parsed anew. Raises ``CredentialRejected``."""
    certificate = x509.load_der_x509_certificate(der)
    _run(LEAF_CHECKS, certificate)
    for check in INTENT_CHECKS:
        try:
            check.run(certificate, intent)
        except _Broken as broken:
            raise CredentialRejected(check.rule, check.name, str(broken)) from None
    return certificate


def _run(checks: Iterable[Check], certificate: x509.Certificate) -> None:
    for check in checks:
        try:
            check.run(certificate)
        except (_Broken, MalformedSPIFFEID, x509.DuplicateExtension) as broken:
            raise CredentialRejected(check.rule, check.name, str(broken)) from None
        except ValueError:
            # The parser is lazy: a malformed extension is first met here.
            raise CredentialRejected(check.rule, check.name, "it does not parse.") from None


def _extension(certificate: x509.Certificate, kind: type[T]) -> x509.Extension[T]:
    if (found := _find(certificate, kind)) is None:
        raise _Broken(f"it has no {kind.__name__}.")
    return found


def _find(certificate: x509.Certificate, kind: type[T]) -> x509.Extension[T] | None:
    """By exact type, for ``get_extension_for_class`` asks each one for all its ancestors."""
    for extension in certificate.extensions:
        if type(extension.value) is kind:
            return cast("x509.Extension[T]", extension)
    return None


def _uris(certificate: x509.Certificate) -> list[str]:
    names = _extension(certificate, x509.SubjectAlternativeName).value
    return names.get_values_for_type(x509.UniformResourceIdentifier)


# --- what every leaf must be ----------------------------------------------------------------


def _is_version_3(certificate: x509.Certificate) -> None:
    if certificate.version is not x509.Version.v3:
        raise _Broken("only version 3 has extensions.")


def _has_one_uri_san(certificate: x509.Certificate) -> None:
    if (count := len(_uris(certificate))) != 1:
        raise _Broken(f"it has {count} URI SANs; exactly one names the workload.")


def _uri_is_a_spiffe_id(certificate: x509.Certificate) -> None:
    SPIFFEID.parse(_uris(certificate)[0])


def _names_a_workload(certificate: x509.Certificate) -> None:
    if SPIFFEID.parse(_uris(certificate)[0]).is_trust_domain:
        raise _Broken("its SPIFFE ID has no path: that is an authority's name.")


def _san_is_critical_if_it_is_the_name(certificate: x509.Certificate) -> None:
    san = _extension(certificate, x509.SubjectAlternativeName)
    if not list(certificate.subject) and not san.critical:
        raise _Broken("with an empty Subject, the SAN must be critical.")


def _says_that_it_is_no_ca(certificate: x509.Certificate) -> None:
    if _extension(certificate, x509.BasicConstraints).value.ca:
        raise _Broken("a CA certificate never authenticates a workload.")


def _key_usage_is_critical(certificate: x509.Certificate) -> None:
    if not _extension(certificate, x509.KeyUsage).critical:
        raise _Broken("keyUsage must be critical.")


def _leaf_key_only_signs_messages(certificate: x509.Certificate) -> None:
    usage = _extension(certificate, x509.KeyUsage).value
    if not usage.digital_signature:
        raise _Broken("keyUsage lacks digitalSignature.")
    if usage.key_cert_sign or usage.crl_sign:
        raise _Broken("keyUsage of a leaf holds keyCertSign or cRLSign.")


def _serves_and_calls(certificate: x509.Certificate) -> None:
    usages = _find(certificate, x509.ExtendedKeyUsage)
    if usages is None:
        return  # X6: the extension SHOULD be there; what we issue has it (INTENT_CHECKS).
    both = {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    if not both <= set(usages.value):
        raise _Broken("extendedKeyUsage needs both serverAuth and clientAuth.")


def _leaf_constrains_no_names(certificate: x509.Certificate) -> None:
    if any(e.oid == x509.NameConstraints.oid for e in certificate.extensions):
        raise _Broken("nameConstraints belong to CA certificates only.")


def _key_is_strong(certificate: x509.Certificate) -> None:
    if key_type_of(certificate.public_key()) is None:
        raise _Broken("its key is none of P-256, P-384 and Ed25519.")


_COMMON = (
    Check("X5", "key-usage-is-critical", _key_usage_is_critical),
    Check("X9", "version-is-3", _is_version_3),
)

LEAF_CHECKS: tuple[Check, ...] = (
    *_COMMON,
    Check("X1", "one-uri-san", _has_one_uri_san),
    Check("X1", "uri-is-a-spiffe-id", _uri_is_a_spiffe_id),
    Check("X2", "names-a-workload", _names_a_workload),
    Check("X3", "san-is-critical-without-subject", _san_is_critical_if_it_is_the_name),
    Check("X4", "is-no-ca", _says_that_it_is_no_ca),
    Check("X5", "key-only-signs-messages", _leaf_key_only_signs_messages),
    Check("X6", "serves-and-calls", _serves_and_calls),
    Check("X10", "constrains-no-names", _leaf_constrains_no_names),
)


# --- what every authority must be -----------------------------------------------------------


def _is_ca(certificate: x509.Certificate) -> None:
    constraints = _extension(certificate, x509.BasicConstraints)
    if not constraints.value.ca or not constraints.critical:
        raise _Broken("a CA certificate says cA=TRUE in a critical basicConstraints.")


def _signs_certificates(certificate: x509.Certificate) -> None:
    if not _extension(certificate, x509.KeyUsage).value.key_cert_sign:
        raise _Broken("keyUsage of a CA lacks keyCertSign.")


def _names_its_trust_domain(certificate: x509.Certificate) -> None:
    _has_one_uri_san(certificate)
    if not SPIFFEID.parse(_uris(certificate)[0]).is_trust_domain:
        raise _Broken("the SPIFFE ID of a CA has no path.")


_NAMES_ITS_TRUST_DOMAIN = Check("X7", "names-its-trust-domain", _names_its_trust_domain)

PEER_AUTHORITY_CHECKS: tuple[Check, ...] = (
    *_COMMON,
    Check("X7", "is-a-ca", _is_ca),
    Check("X5", "signs-certificates", _signs_certificates),
)

AUTHORITY_CHECKS: tuple[Check, ...] = (
    *PEER_AUTHORITY_CHECKS,
    _NAMES_ITS_TRUST_DOMAIN,
    Check("X9", "key-is-strong", _key_is_strong),
)


# --- whether it is what was asked for -------------------------------------------------------


def _is_the_attested_id(certificate: x509.Certificate, intent: Intent) -> None:
    if _uris(certificate) != [str(intent.spiffe_id)]:
        raise _Broken(f"it names {_uris(certificate)[0]}, not {intent.spiffe_id}.")


def _has_only_the_allowed_names(certificate: x509.Certificate, intent: Intent) -> None:
    names = _extension(certificate, x509.SubjectAlternativeName).value
    allowed: set[x509.GeneralName] = {x509.DNSName(name) for name in intent.dns_names}
    allowed.add(x509.UniformResourceIdentifier(str(intent.spiffe_id)))
    if set(names) != allowed:
        raise _Broken("its SAN does not hold exactly the names that were granted.")


def _has_the_subject(certificate: x509.Certificate, intent: Intent) -> None:
    found = [(a.oid, a.value) for a in certificate.subject]
    meant = [
        (NameOID.ORGANIZATION_NAME, intent.spiffe_id.trust_domain),
        (NameOID.ORGANIZATIONAL_UNIT_NAME, intent.organizational_unit),
        (NameOID.COMMON_NAME, intent.spiffe_id.name),
    ]
    if found != meant:
        raise _Broken(f"its Subject is {certificate.subject.rfc4514_string()}.")


def _has_the_requested_key(certificate: x509.Certificate, intent: Intent) -> None:
    der = certificate.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    if der != intent.public_key_der:
        raise _Broken("it binds another key than the request's.")


def _is_signed_by_the_issuer(certificate: x509.Certificate, intent: Intent) -> None:
    try:
        certificate.verify_directly_issued_by(intent.issuer)
        _verify_issuer(intent.issuer, intent.root)
    except (InvalidSignature, ValueError, TypeError):
        raise _Broken("its signature, or its issuer's, does not verify.") from None


@lru_cache(maxsize=8)
def _verify_issuer(issuer: x509.Certificate, root: x509.Certificate) -> None:
    """Verified once: the same two certificates say the same each time. A refusal is not kept."""
    issuer.verify_directly_issued_by(root)


def _issuer_is_of_the_same_domain(_: x509.Certificate, intent: Intent) -> None:
    for authority in (intent.issuer, intent.root):
        if _uris(authority) != [f"spiffe://{intent.spiffe_id.trust_domain}"]:
            raise _Broken("its issuer is an authority of another trust domain.")


def _key_identifiers_chain(certificate: x509.Certificate, intent: Intent) -> None:
    own = _extension(certificate, x509.AuthorityKeyIdentifier).value.key_identifier
    if own != _extension(intent.issuer, x509.SubjectKeyIdentifier).value.digest:
        raise _Broken("its authorityKeyIdentifier is not the issuer's subjectKeyIdentifier.")
    _extension(certificate, x509.SubjectKeyIdentifier)


def _lives_within_its_issuer(certificate: x509.Certificate, intent: Intent) -> None:
    for authority in (intent.issuer, intent.root):
        if certificate.not_valid_after_utc > authority.not_valid_after_utc:
            raise _Broken("it outlives its CA.")


def _is_valid_now(certificate: x509.Certificate, intent: Intent) -> None:
    if not certificate.not_valid_before_utc <= intent.now <= certificate.not_valid_after_utc:
        raise _Broken("it is not valid at the time of issue.")
    if certificate.not_valid_after_utc > intent.not_after:
        raise _Broken("it lives longer than was granted.")


def _has_both_usages(certificate: x509.Certificate, _: Intent) -> None:
    usages = set(_extension(certificate, x509.ExtendedKeyUsage).value)
    if usages != {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}:
        raise _Broken("extendedKeyUsage is not exactly serverAuth and clientAuth.")


def _has_only_known_extensions(certificate: x509.Certificate, _: Intent) -> None:
    if unknown := {e.oid for e in certificate.extensions} - KNOWN_EXTENSIONS:
        raise _Broken(f"it has extensions of no profile of ours: {sorted(map(str, unknown))}.")


def _serial_is_random_enough(certificate: x509.Certificate, _: Intent) -> None:
    if not MIN_SERIAL_BITS <= certificate.serial_number.bit_length() <= MAX_SERIAL_BITS:
        raise _Broken("its serial number is too short or too long.")


def _leaf_key_is_strong(certificate: x509.Certificate, _: Intent) -> None:
    _key_is_strong(certificate)


INTENT_CHECKS: tuple[IntentCheck, ...] = (
    IntentCheck("X1", "is-the-attested-id", _is_the_attested_id),
    IntentCheck("X1", "has-only-granted-names", _has_only_the_allowed_names),
    IntentCheck("X3", "has-the-subject", _has_the_subject),
    IntentCheck("X6", "has-both-usages", _has_both_usages),
    IntentCheck("X7", "issuer-is-of-the-same-domain", _issuer_is_of_the_same_domain),
    IntentCheck("X9", "has-the-requested-key", _has_the_requested_key),
    IntentCheck("X9", "leaf-key-is-strong", _leaf_key_is_strong),
    IntentCheck("X9", "is-signed-by-the-issuer", _is_signed_by_the_issuer),
    IntentCheck("X9", "key-identifiers-chain", _key_identifiers_chain),
    IntentCheck("X9", "lives-within-its-issuer", _lives_within_its_issuer),
    IntentCheck("X9", "is-valid-now", _is_valid_now),
    IntentCheck("X9", "has-only-known-extensions", _has_only_known_extensions),
    IntentCheck("X9", "serial-is-random-enough", _serial_is_random_enough),
)
