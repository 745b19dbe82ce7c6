"""Throwaway P-256 certificates for the servers that Watertight is compared with."""

import datetime as dt
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

HOURS = 4


@dataclass(frozen=True)
class Pair:
    """Files of one end: chain, key, and both in one (as HAProxy wants them)."""

    certificate: Path
    private_key: Path
    combined: Path


@dataclass(frozen=True)
class Certificates:
    """One authority and its two ends."""

    authority: Path
    caller: Pair
    callee: Pair


def _certificate(
    name: str, key: ec.EllipticCurvePrivateKey, signer: ec.EllipticCurvePrivateKey, *, ca: bool
) -> x509.Certificate:
    now = dt.datetime.now(dt.UTC)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    issuer = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "bench authority")])
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(minutes=5))
        .not_valid_after(now + dt.timedelta(hours=HOURS))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(signer, hashes.SHA256())
    )


def _pair(
    directory: Path, name: str, signer: ec.EllipticCurvePrivateKey, *, ca: bool = False
) -> Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _certificate(name, key, signer, ca=ca)
    certificate_pem = certificate.public_bytes(serialization.Encoding.PEM)
    key_pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    pair = Pair(*(directory / f"{name}.{kind}.pem" for kind in ("certificate", "key", "combined")))
    for file, content in (
        (pair.certificate, certificate_pem),
        (pair.private_key, key_pem),
        (pair.combined, certificate_pem + key_pem),
    ):
        file.touch(mode=0o600)
        file.write_bytes(content)
    return pair


def make(directory: Path) -> Certificates:
    """An authority and a certificate for ``caller`` and ``callee``, valid for four hours."""
    authority, key = _root(directory)
    return Certificates(authority, _pair(directory, "caller", key), _pair(directory, "callee", key))


def make_intermediate(directory: Path) -> tuple[Path, Pair]:
    """The files of a root and of an authority below it that may sign, valid for four hours."""
    authority, key = _root(directory)
    return authority, _pair(directory, "intermediate", key, ca=True)


def _root(directory: Path) -> tuple[Path, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    authority = directory / "authority.pem"
    root = _certificate("bench authority", key, key, ca=True)
    authority.write_bytes(root.public_bytes(serialization.Encoding.PEM))
    return authority, key
