"""Certificates with exactly one thing wrong with them, signed for real."""

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.identity.world import START, TRUST_DOMAIN
from watertight.identity.keys import KeyType, PrivateKey, generate, signing_hash
from watertight.identity.recheck import Intent
from watertight.identity.spiffe import SPIFFEID

BOTH_USAGES = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)
NO_CA = x509.BasicConstraints(ca=False, path_length=None)
URI = x509.UniformResourceIdentifier
DNS = x509.DNSName


def name(*parts: str) -> x509.Name:
    """O, OU, CN."""
    oids = (NameOID.ORGANIZATION_NAME, NameOID.ORGANIZATIONAL_UNIT_NAME, NameOID.COMMON_NAME)
    return x509.Name([x509.NameAttribute(o, p) for o, p in zip(oids, parts, strict=True)])


def usage(*bits: str) -> x509.KeyUsage:
    """keyUsage with exactly these bits."""
    every = (
        "digital_signature", "content_commitment", "key_encipherment", "data_encipherment",
        "key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
    )  # fmt: skip
    return x509.KeyUsage(**{bit: bit in bits for bit in every})


@dataclass(frozen=True)
class Draft:
    """A certificate to be; the defaults are a right SVID of ``orders``. None leaves a thing out."""

    subject: x509.Name = field(default_factory=lambda: name(TRUST_DOMAIN, "services", "orders"))
    sans: tuple[x509.GeneralName, ...] | None = (
        URI(f"spiffe://{TRUST_DOMAIN}/orders"),
        DNS("orders"),
    )
    san_critical: bool = False
    constraints: x509.BasicConstraints | None = NO_CA
    usage: x509.KeyUsage | None = field(default_factory=lambda: usage("digital_signature"))
    usage_critical: bool = True
    usages: tuple[x509.ObjectIdentifier, ...] | None = BOTH_USAGES
    start: dt.datetime = START - dt.timedelta(minutes=1)
    end: dt.datetime = START + dt.timedelta(hours=1)
    serial: int = 2**150 + 7
    extra: tuple[tuple[x509.ExtensionType, bool], ...] = ()
    key: PrivateKey = field(default_factory=lambda: generate(KeyType.ECDSA_P256))
    subject_key_identifier: bool = True
    authority_key_identifier: bool = True

    def but(self, **changes: Any) -> "Draft":
        """The same with changes."""
        return replace(self, **changes)

    def signed(self, issuer: "CA | None" = None) -> x509.Certificate:
        """Signed by a CA, or by itself."""
        signing = issuer.key if issuer else self.key
        builder = (
            x509.CertificateBuilder()
            .subject_name(self.subject)
            .issuer_name(issuer.certificate.subject if issuer else self.subject)
            .serial_number(self.serial)
            .public_key(self.key.public_key())
            .not_valid_before(self.start)
            .not_valid_after(self.end)
        )
        for value, critical in self._extensions(signing):
            builder = builder.add_extension(value, critical)
        return builder.sign(signing, signing_hash(signing))

    def _extensions(self, signing: PrivateKey) -> list[tuple[x509.ExtensionType, bool]]:
        found: list[tuple[x509.ExtensionType | None, bool]] = [
            (self.constraints, True),
            (self.usage, self.usage_critical),
            (x509.ExtendedKeyUsage(self.usages) if self.usages else None, False),
            (x509.SubjectAlternativeName(self.sans) if self.sans else None, self.san_critical),
        ]
        if self.subject_key_identifier:
            own = x509.SubjectKeyIdentifier.from_public_key(self.key.public_key())
            found.append((own, False))
        if self.authority_key_identifier:
            above = x509.AuthorityKeyIdentifier.from_issuer_public_key(signing.public_key())
            found.append((above, False))
        found += self.extra
        return [(value, critical) for value, critical in found if value is not None]


@dataclass(frozen=True)
class CA:
    """A CA certificate with its key."""

    certificate: x509.Certificate
    key: PrivateKey


def ca_draft(label: str, path_length: int | None = 1, trust_domain: str = TRUST_DOMAIN) -> Draft:
    """A right CA certificate."""
    return Draft(
        subject=name(trust_domain, "authorities", label),
        sans=(URI(f"spiffe://{trust_domain}"),),
        constraints=x509.BasicConstraints(ca=True, path_length=path_length),
        usage=usage("key_cert_sign", "crl_sign"),
        usages=None,
        end=START + dt.timedelta(days=1),
    )


def make_ca(draft: Draft, above: CA | None = None) -> CA:
    """Signs a CA certificate."""
    return CA(draft.signed(above), draft.key)


@dataclass(frozen=True)
class Hierarchy:
    """A root and an issuer of one trust domain."""

    root: CA
    issuer: CA

    def intent(self, draft: Draft) -> Intent:
        """What a right SVID of ``orders`` with the draft's key is held against."""
        return Intent(
            spiffe_id=SPIFFEID.workload(TRUST_DOMAIN, "orders"),
            dns_names=("orders",),
            organizational_unit="services",
            public_key_der=draft.key.public_key().public_bytes(
                serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
            ),
            issuer=self.issuer.certificate,
            root=self.root.certificate,
            now=START,
            not_after=START + dt.timedelta(hours=1),
        )


def make_hierarchy(trust_domain: str = TRUST_DOMAIN) -> Hierarchy:
    """A fresh root and issuer."""
    root = make_ca(ca_draft("root", 1, trust_domain))
    return Hierarchy(root, make_ca(ca_draft("issuer", 0, trust_domain), root))


Change = Callable[[Draft], Draft]
