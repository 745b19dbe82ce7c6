"""Forged credentials: each is right but for the one thing that its forgery says is wrong.

The forger signs with the active issuer's real key where it must (two URI SANs, expired, …): a
probe that any unknown authority could fail would prove nothing about the rule it attacks.
"""

import datetime as dt
import os
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from watertight.attack.arena import Credential, Forgery
from watertight.errors import WatertightError
from watertight.identity.svid import PEM

SVID_USAGES = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)

REUSED_SECONDS = 120.0
"""Well within a forgery's validity: a proof may take longer than that."""

SigningKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey


class CannotForge(WatertightError):
    """The certificate library refuses to write what the forgery asks for."""


@dataclass(frozen=True, slots=True)
class Signer:
    """An authority that can sign: its certificate, its key, and what a chain holds above a leaf.

    ``chain`` starts with ``certificate`` itself and leaves the root out.
    """

    certificate: x509.Certificate
    private_key: SigningKey = field(repr=False)
    chain: tuple[x509.Certificate, ...] = ()


def foreign_like(signer: Signer) -> Signer:
    """An unknown authority with the same names and a key of its own."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = signer.certificate.subject
    now = dt.datetime.now(dt.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=1))
    )
    for extension in signer.certificate.extensions:
        if not isinstance(extension.value, x509.AuthorityKeyIdentifier | x509.SubjectKeyIdentifier):
            builder = builder.add_extension(extension.value, critical=extension.critical)
    ski = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    certificate = builder.add_extension(ski, critical=False).sign(key, hashes.SHA256())
    return Signer(certificate, key, (certificate,))


class Forger:
    """Makes credentials as files (0600) in a private directory that :meth:`close` removes."""

    def __init__(
        self,
        signer: Signer,
        *,
        parent: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ours = signer
        self._foreign = foreign_like(signer)
        self._directory = Path(tempfile.mkdtemp(prefix="watertight-forge-", dir=parent))  # 0700
        self._clock = clock
        self._made: dict[Forgery, tuple[Credential, float]] = {}

    @property
    def foreign_authority(self) -> x509.Certificate:
        """The certificate of the unknown authority (no target may ever trust it)."""
        return self._foreign.certificate

    def forge(self, forgery: Forgery) -> Credential:
        """The credential with exactly that wrong with it, made at most ``REUSED_SECONDS`` ago.

        Until then the same forgery gives the same files; one that soon ends is made anew each time.
        Raises :class:`CannotForge`.
        """
        made = self._made.get(forgery)
        brief = 0 < forgery.not_after_seconds <= REUSED_SECONDS
        if made is None or brief or self._clock() - made[1] > REUSED_SECONDS:
            made = self._made[forgery] = self._make(forgery), self._clock()
        return made[0]

    def svid(self, spiffe_id: str, dns_name: str) -> Credential:
        """A right SVID, as stolen from its owner."""
        return self.forge(right(spiffe_id, dns_name))

    def close(self) -> None:
        """Removes every forged key."""
        shutil.rmtree(self._directory, ignore_errors=True)

    def _make(self, forgery: Forgery) -> Credential:
        key = ec.generate_private_key(ec.SECP256R1())
        signer = {"ours": self._ours, "foreign": self._foreign, "self": None}[forgery.issuer]
        try:
            certificate = _certificate(forgery, key, signer)
        except (ValueError, TypeError) as error:
            raise CannotForge(
                f"A certificate with {forgery} cannot be written: {error}."
            ) from error
        chain = (certificate, *(signer.chain if signer else ()))
        return self._write(chain, key)

    def _write(self, chain: Sequence[x509.Certificate], key: SigningKey) -> Credential:
        handle, name = tempfile.mkstemp(dir=self._directory, suffix=".pem")  # 0600
        pem = key.private_bytes(
            PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        with os.fdopen(handle, "wb") as file:
            file.write(b"".join(c.public_bytes(PEM) for c in chain) + pem)
        return Credential(Path(name), Path(name))


def right(spiffe_id: str, dns_name: str) -> Forgery:
    """The forgery with nothing wrong with it (DESIGN.md section 7)."""
    return Forgery(
        uri_sans=(spiffe_id,),
        dns_sans=(dns_name,),
        common_name=dns_name,
        organization=spiffe_id.split("/")[2],
    )


def _certificate(
    forgery: Forgery, key: ec.EllipticCurvePrivateKey, signer: Signer | None
) -> x509.Certificate:
    now = dt.datetime.now(dt.UTC)
    subject = _subject(forgery)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(signer.certificate.subject if signer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + dt.timedelta(seconds=forgery.not_before_seconds))
        .not_valid_after(now + dt.timedelta(seconds=forgery.not_after_seconds))
        .add_extension(
            x509.BasicConstraints(ca=forgery.is_ca, path_length=0 if forgery.is_ca else None),
            critical=True,
        )
        .add_extension(_key_usage(ca=forgery.is_ca), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    usages = SVID_USAGES if forgery.extended_key_usages is None else forgery.extended_key_usages
    if usages:
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    names: list[x509.GeneralName] = [
        *(x509.UniformResourceIdentifier(uri) for uri in forgery.uri_sans),
        *(x509.DNSName(name) for name in forgery.dns_sans),
    ]
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    if signer is not None:
        builder = builder.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.private_key.public_key()),
            critical=False,
        )
    signing_key = signer.private_key if signer else key
    algorithm = None if isinstance(signing_key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return builder.sign(signing_key, algorithm)


def _subject(forgery: Forgery) -> x509.Name:
    if not forgery.common_name:
        return x509.Name([])
    with warnings.catch_warnings():
        # X.520 bounds a common name at 64; a SPIFFE ID in it may be longer, and is the attack.
        warnings.simplefilter("ignore", UserWarning)
        name = x509.NameAttribute(NameOID.COMMON_NAME, forgery.common_name, _validate=False)
    if not forgery.organization:
        return x509.Name([name])
    organization = x509.NameAttribute(NameOID.ORGANIZATION_NAME, forgery.organization)
    unit = x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, forgery.unit)
    return x509.Name([organization, unit, name])


def _key_usage(*, ca: bool) -> x509.KeyUsage:
    """As X509-SVID section 4.3 has it: a leaf signs handshakes, a CA signs certificates only."""
    return x509.KeyUsage(
        digital_signature=not ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )
