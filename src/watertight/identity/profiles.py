"""The certificate profiles: what we intend to sign (X.509-SVID section 2 to 4, RFC 5280).

Nothing here decides who gets a certificate (``requests.py``), and nothing here checks what was
signed (``recheck.py``, which shares no code with this module on purpose).
"""

import datetime as dt
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from watertight.identity.keys import PublicKey
from watertight.identity.spiffe import SPIFFEID

MAX_ORGANIZATION_BYTES = 64
"""The upper bound of O and CN in a Subject (RFC 5280 appendix A.1)."""


class Role(StrEnum):
    """What a workload is to the rest; the OU of its Subject.

    Servers that map a Subject to an account can so tell a database's own SVID from its clients'.
    """

    SERVICES = "services"
    SERVERS = "servers"


@dataclass(frozen=True, slots=True)
class Validity:
    """From when to when, aware and in whole seconds (RFC 5280 section 4.1.2.5)."""

    not_before: dt.datetime
    not_after: dt.datetime


@dataclass(frozen=True, slots=True)
class LeafTemplate:
    """Everything of an SVID that is ours to choose."""

    spiffe_id: SPIFFEID
    dns_names: tuple[str, ...]
    role: Role
    public_key: PublicKey
    validity: Validity


@dataclass(frozen=True, slots=True)
class AuthorityTemplate:
    """Everything of a CA certificate that is ours to choose. ``label`` ends up in the CN."""

    trust_domain: str
    label: str
    public_key: PublicKey
    validity: Validity
    path_length: int


@lru_cache(maxsize=256)
def subject(common_name: str, unit: str, trust_domain: str) -> x509.Name:
    """``CN=…,OU=…,O=…`` as RFC 4514 writes it (the DER order is O, OU, CN)."""
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, trust_domain),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, unit),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


def svid(template: LeafTemplate, issuer: x509.Certificate) -> x509.CertificateBuilder:
    """An unsigned X.509-SVID of a workload."""
    begun = _leaf_of(issuer, template.spiffe_id, template.dns_names, template.role)
    return _certificate(template.public_key, template.validity, begun)


@lru_cache(maxsize=4096)
def _leaf_of(
    issuer: x509.Certificate, identity: SPIFFEID, dns_names: tuple[str, ...], role: Role
) -> x509.CertificateBuilder:
    """What all SVIDs of one workload have in common; a builder never changes, but begets."""
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(str(identity))]
    names += [x509.DNSName(name) for name in dns_names]
    return (
        _leaf_below(issuer)
        .subject_name(subject(identity.name, role, identity.trust_domain))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
    )


@lru_cache(maxsize=8)
def _leaf_below(issuer: x509.Certificate) -> x509.CertificateBuilder:
    """What all SVIDs below one issuer have in common."""
    return (
        x509.CertificateBuilder()
        .issuer_name(issuer.subject)
        # Present even though FALSE is the default: conforming clients refuse an SVID without it.
        .add_extension(_NO_CA, critical=True)
        .add_extension(_SIGNS_MESSAGES, critical=True)
        .add_extension(_SERVES_AND_CALLS, critical=False)
        .add_extension(_authority_key_identifier(issuer), critical=False)
    )


def root(template: AuthorityTemplate) -> x509.CertificateBuilder:
    """An unsigned, self-issued root."""
    name = subject(template.label, "authorities", template.trust_domain)
    return _authority(template, name).issuer_name(name)


def issuer(template: AuthorityTemplate, parent: x509.Certificate) -> x509.CertificateBuilder:
    """An unsigned issuing intermediate."""
    name = subject(template.label, "authorities", template.trust_domain)
    return (
        _authority(template, name)
        .issuer_name(parent.subject)
        .add_extension(_authority_key_identifier(parent), critical=False)
    )


def _authority(template: AuthorityTemplate, name: x509.Name) -> x509.CertificateBuilder:
    identity = x509.UniformResourceIdentifier(str(SPIFFEID(template.trust_domain)))
    constraints = x509.BasicConstraints(ca=True, path_length=template.path_length)
    return (
        _certificate(template.public_key, template.validity, x509.CertificateBuilder())
        .subject_name(name)
        .add_extension(constraints, critical=True)
        .add_extension(_key_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .add_extension(x509.SubjectAlternativeName([identity]), critical=False)
    )


def _certificate(
    public_key: PublicKey, validity: Validity, begun: x509.CertificateBuilder
) -> x509.CertificateBuilder:
    return (
        begun.serial_number(x509.random_serial_number())
        .public_key(public_key)
        .not_valid_before(validity.not_before)
        .not_valid_after(validity.not_after)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def _authority_key_identifier(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    own = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own)


def _key_usage(
    *, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        # No key encipherment or agreement: TLS 1.3 only signs, and an EC key cannot encipher.
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


_NO_CA = x509.BasicConstraints(ca=False, path_length=None)
_SIGNS_MESSAGES = _key_usage(digital_signature=True)
_SERVES_AND_CALLS = x509.ExtendedKeyUsage(
    [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
)
