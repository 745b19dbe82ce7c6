"""Who gets an SVID: a chain of small validators, each with a name that stands in its refusal.

The SPIFFE ID of a request is what *attestation* found, never what the caller says. From the CSR
only the public key is used, once its signature has proven that the caller holds the private one.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from watertight.identity.errors import IssuanceRefused, MalformedSPIFFEID
from watertight.identity.keys import PublicKey, key_type_of
from watertight.identity.profiles import Role
from watertight.identity.spiffe import SPIFFEID
from watertight.model.system import GATEWAY

MAX_CSR_BYTES = 16_384
MAX_COMMON_NAME_BYTES = 64
MAX_DNS_NAMES = 16

_DNS_NAME = re.compile(
    r"(?=.{1,253}\Z)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*\Z"
)


@dataclass(frozen=True, slots=True)
class SVIDRequest:
    """One request for an X.509-SVID."""

    csr: bytes = field(repr=False)
    """PKCS#10, DER or PEM; the private key stays where it was made."""
    spiffe_id: SPIFFEID
    """As attested."""
    dns_names: tuple[str, ...] = ()
    role: Role = Role.SERVICES
    ttl_seconds: float | None = None
    """None: the authority's default."""


@dataclass(frozen=True, slots=True)
class IssuancePolicy:
    """What the validators hold a request against."""

    trust_domain: str
    revoked: frozenset[SPIFFEID]
    max_ttl_seconds: float


@dataclass(frozen=True, slots=True)
class IdentityValidator:
    """One reason to refuse that lies in who asks. ``run`` raises ``_Refusal``."""

    name: str
    run: Callable[[SPIFFEID, IssuancePolicy], None]


@dataclass(frozen=True, slots=True)
class WishValidator:
    """One reason to refuse that lies in what is asked for. ``run`` raises ``_Refusal``."""

    name: str
    run: Callable[[SVIDRequest, IssuancePolicy], None]


@dataclass(frozen=True, slots=True)
class CSRValidator:
    """One reason to refuse that lies in the CSR. ``run`` raises ``_Refusal``."""

    name: str
    run: Callable[[x509.CertificateSigningRequest, SVIDRequest], None]


class _Refusal(Exception):
    """A validator said no; the message is the reason."""


def validate(request: SVIDRequest, policy: IssuancePolicy) -> PublicKey:
    """The public key to certify. Raises ``IssuanceRefused`` with the first validator that refuses.

    Identity comes before the CSR: the bytes of a caller who gets nothing are not parsed.
    """
    validate_identity(request.spiffe_id, policy)
    for validator in WISH_VALIDATORS:
        try:
            validator.run(request, policy)
        except _Refusal as refusal:
            raise IssuanceRefused(validator.name, str(refusal)) from None
    csr = _parse(request.csr)
    for csr_validator in CSR_VALIDATORS:
        try:
            csr_validator.run(csr, request)
        except (_Refusal, MalformedSPIFFEID, x509.DuplicateExtension) as refusal:
            raise IssuanceRefused(csr_validator.name, str(refusal)) from None
        except (ValueError, UnsupportedAlgorithm):
            # The parser is lazy: a malformed extension or an unknown curve is first met here.
            raise IssuanceRefused(csr_validator.name, "the CSR does not parse.") from None
    return _allowed_key(csr)


def validate_identity(spiffe_id: SPIFFEID, policy: IssuancePolicy) -> None:
    """Raises ``IssuanceRefused`` unless this identity may have SVIDs (X.509 and JWT alike)."""
    for validator in IDENTITY_VALIDATORS:
        try:
            validator.run(spiffe_id, policy)
        except _Refusal as refusal:
            raise IssuanceRefused(validator.name, str(refusal)) from None


def _parse(csr: bytes) -> x509.CertificateSigningRequest:
    if len(csr) > MAX_CSR_BYTES:
        raise IssuanceRefused("csr-parses", f"it has more than {MAX_CSR_BYTES} bytes.")
    try:
        if csr.startswith(b"-----BEGIN"):
            return x509.load_pem_x509_csr(csr)
        return x509.load_der_x509_csr(csr)
    except ValueError:
        raise IssuanceRefused("csr-parses", "it is not a PKCS#10 request.") from None


# --- who asks -----------------------------------------------------------------


def _identity_is_ours(spiffe_id: SPIFFEID, policy: IssuancePolicy) -> None:
    if spiffe_id.trust_domain != policy.trust_domain:
        raise _Refusal(f"{spiffe_id} is not of the trust domain {policy.trust_domain}.")


def _identity_is_a_workload(spiffe_id: SPIFFEID, _: IssuancePolicy) -> None:
    if spiffe_id.is_trust_domain:
        raise _Refusal("an identity without a path is the authority's own.")


def _identity_fits_a_common_name(spiffe_id: SPIFFEID, _: IssuancePolicy) -> None:
    # Servers that map the CN must never see two identities cut down to the same one.
    if len(spiffe_id.name) > MAX_COMMON_NAME_BYTES:
        raise _Refusal(f"its path has more than {MAX_COMMON_NAME_BYTES} bytes.")


def _identity_is_not_revoked(spiffe_id: SPIFFEID, policy: IssuancePolicy) -> None:
    if spiffe_id in policy.revoked:
        raise _Refusal(f"{spiffe_id} is revoked.")


IDENTITY_VALIDATORS: tuple[IdentityValidator, ...] = (
    IdentityValidator("identity-is-ours", _identity_is_ours),
    IdentityValidator("identity-is-a-workload", _identity_is_a_workload),
    IdentityValidator("identity-fits-a-common-name", _identity_fits_a_common_name),
    IdentityValidator("identity-is-not-revoked", _identity_is_not_revoked),
)


# --- what it asks for -----------------------------------------------------------------------


def _dns_names_are_its_own(request: SVIDRequest, policy: IssuancePolicy) -> None:
    if len(request.dns_names) > MAX_DNS_NAMES:
        raise _Refusal(f"it asks for more than {MAX_DNS_NAMES} DNS names.")
    if len(set(request.dns_names)) != len(request.dns_names):
        raise _Refusal("it asks for a DNS name twice.")
    name = request.spiffe_id.name
    own = {name, f"{name}.{policy.trust_domain}"}
    for dns_name in request.dns_names:
        if not _DNS_NAME.match(dns_name):
            raise _Refusal(f"{dns_name!r} is not a lower-case DNS name (wildcards never are).")
        # Only the gateway has a name in the world outside, its hostname; a name without a dot
        # would be that of another service.
        outside = "." in dns_name or dns_name == "localhost"
        if dns_name not in own and not (name == GATEWAY and outside):
            raise _Refusal(f"{dns_name} is not a name of {name}.")


def _ttl_is_bounded(request: SVIDRequest, policy: IssuancePolicy) -> None:
    ttl = request.ttl_seconds
    if ttl is not None and not 0 < ttl <= policy.max_ttl_seconds:
        raise _Refusal(f"a life of {ttl:g} s is not within 0 and {policy.max_ttl_seconds:g} s.")


WISH_VALIDATORS: tuple[WishValidator, ...] = (
    WishValidator("dns-names-are-its-own", _dns_names_are_its_own),
    WishValidator("ttl-is-bounded", _ttl_is_bounded),
)


# --- what the CSR proves --------------------------------------------------------------------


def _allowed_key(csr: x509.CertificateSigningRequest) -> PublicKey:
    key = csr.public_key()
    if not isinstance(key, PublicKey) or key_type_of(key) is None:
        raise _Refusal("the key is none of P-256, P-384 and Ed25519.")
    return key


def _key_is_allowed(csr: x509.CertificateSigningRequest, _: SVIDRequest) -> None:
    _allowed_key(csr)


def _caller_holds_the_key(csr: x509.CertificateSigningRequest, _: SVIDRequest) -> None:
    if not csr.is_signature_valid:
        raise _Refusal("the CSR is not signed by the key in it.")


def _csr_asks_for_nothing_else(csr: x509.CertificateSigningRequest, request: SVIDRequest) -> None:
    # What a CSR asks for is never copied; asking for something else is a mistake worth hearing of.
    for extension in csr.extensions:
        if not isinstance(extension.value, x509.SubjectAlternativeName):
            raise _Refusal(f"the CSR asks for the extension {extension.oid.dotted_string}.")
        allowed: set[x509.GeneralName] = {x509.DNSName(name) for name in request.dns_names}
        allowed.add(x509.UniformResourceIdentifier(str(request.spiffe_id)))
        if not set(extension.value) <= allowed:
            raise _Refusal("the CSR asks for a name that attestation did not find.")


CSR_VALIDATORS: tuple[CSRValidator, ...] = (
    CSRValidator("key-is-allowed", _key_is_allowed),
    CSRValidator("caller-holds-the-key", _caller_holds_the_key),
    CSRValidator("csr-asks-for-nothing-else", _csr_asks_for_nothing_else),
)
