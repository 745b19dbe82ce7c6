"""Reads what was signed as a stranger would, and refuses it if it breaks a rule of X.509-SVID.

Between signing and handing over stands this module: it sees only bytes and shares no code with
``profiles.py``, so that a mistake there cannot excuse itself here. Each rule is one named check;
its number (X1 to X10) is that of our research notes on SPIFFE's X.509-SVID, and stands in the
refusal. The checks of a certificate alone are also what ``chain.py`` asks of a peer's SVID.
"""

import datetime as dt
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TypeVar, cast

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
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


class Reading:
    """A certificate, read once for all checks: what a check asks for is kept for the next one.

    What does not parse is not kept, and raises each time.
    """

    def __init__(self, certificate: x509.Certificate) -> None:
        self.certificate = certificate

    @cached_property
    def _by_type(self) -> Mapping[type[x509.ExtensionType], x509.Extension[x509.ExtensionType]]:
        """Each by its type: the parser refuses an OID twice, and each known type has one OID."""
        return {type(extension.value): extension for extension in self.certificate.extensions}

    @cached_property
    def subject(self) -> x509.Name:
        return self.certificate.subject

    @cached_property
    def not_after(self) -> dt.datetime:
        return self.certificate.not_valid_after_utc

    @cached_property
    def public_key(self) -> CertificatePublicKeyTypes:
        return self.certificate.public_key()

    @cached_property
    def uris(self) -> Sequence[str]:
        names = self.extension(x509.SubjectAlternativeName).value
        return tuple(names.get_values_for_type(x509.UniformResourceIdentifier))

    @cached_property
    def spiffe_id(self) -> SPIFFEID:
        """That of its first URI."""
        return SPIFFEID.parse(self.uris[0])

    def find(self, kind: type[T]) -> x509.Extension[T] | None:
        """By exact type, for ``get_extension_for_class`` asks each one for all its ancestors."""
        return cast("x509.Extension[T] | None", self._by_type.get(kind))

    def extension(self, kind: type[T]) -> x509.Extension[T]:
        if (found := self.find(kind)) is None:
            raise _Broken(f"it has no {kind.__name__}.")
        return found


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
    run: Callable[[Reading], None]


@dataclass(frozen=True, slots=True)
class IntentCheck:
    """One rule that needs to know what was meant."""

    rule: str
    name: str
    run: Callable[[Reading, Intent], None]


def check_leaf(certificate: x509.Certificate) -> SPIFFEID:
    """The SPIFFE ID of a workload's certificate. Raises ``CredentialRejected``.

    This looks at the certificate alone: whether anybody trusts it is ``chain.py``'s question.
    """
    read = Reading(certificate)
    _run(LEAF_CHECKS, read)
    return read.spiffe_id


def check_authority(certificate: x509.Certificate) -> None:
    """Raises ``CredentialRejected`` unless this may be a CA certificate of a trust domain."""
    _run(AUTHORITY_CHECKS, Reading(certificate))


def check_peer_authority(certificate: x509.Certificate, trust_domain: str) -> None:
    """Raises ``CredentialRejected`` unless a peer's chain may pass through this CA certificate.

    X7 only says SHOULD of its SPIFFE ID: another implementation's CA may have none, but not one
    of a workload or of another trust domain.
    """
    read = Reading(certificate)
    _run(PEER_AUTHORITY_CHECKS, read)
    try:
        has_names = bool(read.uris)
    except _Broken:
        has_names = False
    if has_names:
        _run([_NAMES_ITS_TRUST_DOMAIN], read)
        if (found := read.uris[0]) != f"spiffe://{trust_domain}":
            raise CredentialRejected("X7", "is-of-the-same-domain", f"a CA of {found} signed it.")


def check_issued(der: bytes, intent: Intent) -> x509.Certificate:
    """The signed certificate, parsed anew. Raises ``CredentialRejected``."""
    read = Reading(x509.load_der_x509_certificate(der))
    _run(LEAF_CHECKS, read)
    for check in INTENT_CHECKS:
        try:
            check.run(read, intent)
        except _Broken as broken:
            raise CredentialRejected(check.rule, check.name, str(broken)) from None
    return read.certificate


def _run(checks: Iterable[Check], read: Reading) -> None:
    for check in checks:
        try:
            check.run(read)
        except (_Broken, MalformedSPIFFEID, x509.DuplicateExtension) as broken:
            raise CredentialRejected(check.rule, check.name, str(broken)) from None
        except ValueError:
            # The parser is lazy: a malformed extension is first met here.
            raise CredentialRejected(check.rule, check.name, "it does not parse.") from None


@lru_cache(maxsize=8)
def _authority(certificate: x509.Certificate) -> Reading:
    """Those of the authority are the same for each leaf."""
    return Reading(certificate)


# --- what every leaf must be ----------------------------------------------------------------


def _is_version_3(read: Reading) -> None:
    if read.certificate.version is not x509.Version.v3:
        raise _Broken("only version 3 has extensions.")


def _has_one_uri_san(read: Reading) -> None:
    if (count := len(read.uris)) != 1:
        raise _Broken(f"it has {count} URI SANs; exactly one names the workload.")


def _uri_is_a_spiffe_id(read: Reading) -> None:
    read.spiffe_id  # noqa: B018 - parses it


def _names_a_workload(read: Reading) -> None:
    if read.spiffe_id.is_trust_domain:
        raise _Broken("its SPIFFE ID has no path: that is an authority's name.")


def _san_is_critical_if_it_is_the_name(read: Reading) -> None:
    san = read.extension(x509.SubjectAlternativeName)
    if not list(read.subject) and not san.critical:
        raise _Broken("with an empty Subject, the SAN must be critical.")


def _says_that_it_is_no_ca(read: Reading) -> None:
    if read.extension(x509.BasicConstraints).value.ca:
        raise _Broken("a CA certificate never authenticates a workload.")


def _key_usage_is_critical(read: Reading) -> None:
    if not read.extension(x509.KeyUsage).critical:
        raise _Broken("keyUsage must be critical.")


def _leaf_key_only_signs_messages(read: Reading) -> None:
    usage = read.extension(x509.KeyUsage).value
    if not usage.digital_signature:
        raise _Broken("keyUsage lacks digitalSignature.")
    if usage.key_cert_sign or usage.crl_sign:
        raise _Broken("keyUsage of a leaf holds keyCertSign or cRLSign.")


def _serves_and_calls(read: Reading) -> None:
    usages = read.find(x509.ExtendedKeyUsage)
    if usages is None:
        return  # X6: the extension SHOULD be there; what we issue has it (INTENT_CHECKS).
    both = {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    if not both <= set(usages.value):
        raise _Broken("extendedKeyUsage needs both serverAuth and clientAuth.")


def _leaf_constrains_no_names(read: Reading) -> None:
    if any(e.oid == x509.NameConstraints.oid for e in read.certificate.extensions):
        raise _Broken("nameConstraints belong to CA certificates only.")


def _key_is_strong(read: Reading) -> None:
    if key_type_of(read.public_key) is None:
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


def _is_ca(read: Reading) -> None:
    constraints = read.extension(x509.BasicConstraints)
    if not constraints.value.ca or not constraints.critical:
        raise _Broken("a CA certificate says cA=TRUE in a critical basicConstraints.")


def _signs_certificates(read: Reading) -> None:
    if not read.extension(x509.KeyUsage).value.key_cert_sign:
        raise _Broken("keyUsage of a CA lacks keyCertSign.")


def _names_its_trust_domain(read: Reading) -> None:
    _has_one_uri_san(read)
    if not read.spiffe_id.is_trust_domain:
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


def _is_the_attested_id(read: Reading, intent: Intent) -> None:
    if read.uris != (str(intent.spiffe_id),):
        raise _Broken(f"it names {read.uris[0]}, not {intent.spiffe_id}.")


def _has_only_the_allowed_names(read: Reading, intent: Intent) -> None:
    names = read.extension(x509.SubjectAlternativeName).value
    allowed: set[x509.GeneralName] = {x509.DNSName(name) for name in intent.dns_names}
    allowed.add(x509.UniformResourceIdentifier(str(intent.spiffe_id)))
    if set(names) != allowed:
        raise _Broken("its SAN does not hold exactly the names that were granted.")


def _has_the_subject(read: Reading, intent: Intent) -> None:
    found = [(a.oid, a.value) for a in read.subject]
    meant = [
        (NameOID.ORGANIZATION_NAME, intent.spiffe_id.trust_domain),
        (NameOID.ORGANIZATIONAL_UNIT_NAME, intent.organizational_unit),
        (NameOID.COMMON_NAME, intent.spiffe_id.name),
    ]
    if found != meant:
        raise _Broken(f"its Subject is {read.subject.rfc4514_string()}.")


def _has_the_requested_key(read: Reading, intent: Intent) -> None:
    der = read.public_key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    if der != intent.public_key_der:
        raise _Broken("it binds another key than the request's.")


def _is_signed_by_the_issuer(read: Reading, intent: Intent) -> None:
    try:
        read.certificate.verify_directly_issued_by(intent.issuer)
        _verify_issuer(intent.issuer, intent.root)
    except (InvalidSignature, ValueError, TypeError):
        raise _Broken("its signature, or its issuer's, does not verify.") from None


@lru_cache(maxsize=8)
def _verify_issuer(issuer: x509.Certificate, root: x509.Certificate) -> None:
    """Verified once: the same two certificates say the same each time. A refusal is not kept."""
    issuer.verify_directly_issued_by(root)


def _issuer_is_of_the_same_domain(_: Reading, intent: Intent) -> None:
    for authority in (intent.issuer, intent.root):
        if _authority(authority).uris != (f"spiffe://{intent.spiffe_id.trust_domain}",):
            raise _Broken("its issuer is an authority of another trust domain.")


def _key_identifiers_chain(read: Reading, intent: Intent) -> None:
    own = read.extension(x509.AuthorityKeyIdentifier).value.key_identifier
    if own != _authority(intent.issuer).extension(x509.SubjectKeyIdentifier).value.digest:
        raise _Broken("its authorityKeyIdentifier is not the issuer's subjectKeyIdentifier.")
    read.extension(x509.SubjectKeyIdentifier)


def _lives_within_its_issuer(read: Reading, intent: Intent) -> None:
    for authority in (intent.issuer, intent.root):
        if read.not_after > _authority(authority).not_after:
            raise _Broken("it outlives its CA.")


def _is_valid_now(read: Reading, intent: Intent) -> None:
    start, end = read.certificate.not_valid_before_utc, read.not_after
    if not start <= intent.now <= end:
        raise _Broken("it is not valid at the time of issue.")
    if end > intent.not_after:
        raise _Broken("it lives longer than was granted.")


def _has_both_usages(read: Reading, _: Intent) -> None:
    usages = set(read.extension(x509.ExtendedKeyUsage).value)
    if usages != {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}:
        raise _Broken("extendedKeyUsage is not exactly serverAuth and clientAuth.")


def _has_only_known_extensions(read: Reading, _: Intent) -> None:
    if unknown := {e.oid for e in read.certificate.extensions} - KNOWN_EXTENSIONS:
        raise _Broken(f"it has extensions of no profile of ours: {sorted(map(str, unknown))}.")


def _serial_is_random_enough(read: Reading, _: Intent) -> None:
    if not MIN_SERIAL_BITS <= read.certificate.serial_number.bit_length() <= MAX_SERIAL_BITS:
        raise _Broken("its serial number is too short or too long.")


def _leaf_key_is_strong(read: Reading, _: Intent) -> None:
    _key_is_strong(read)


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
