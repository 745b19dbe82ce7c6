"""A throwaway authority for tests of the compiled configuration."""

import datetime as dt
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from watertight.enforcers.envoy.compile.blocks import extension


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate with its key, as PEM."""

    certificate: bytes
    private_key: bytes = field(repr=False)

    def save(self, directory: Path, name: str) -> tuple[Path, Path]:
        """As two files: certificate, key."""
        paths = directory / f"{name}.crt", directory / f"{name}.key"
        for path, data in zip(paths, (self.certificate, self.private_key), strict=True):
            path.touch(mode=0o600)
            path.write_bytes(data)
        return paths


class Authority:
    """A root that issues leaves directly; what is wrong with a leaf is said at ``issue``."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test root")])
        now = dt.datetime.now(dt.UTC)
        self.root = (
            x509.CertificateBuilder()
            .subject_name(self.name)
            .issuer_name(self.name)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(minutes=5))
            .not_valid_after(now + dt.timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(ca=True), critical=True)
            .sign(self.key, hashes.SHA256())
        )

    def root_pem(self) -> bytes:
        """The root as PEM."""
        return self.root.public_bytes(serialization.Encoding.PEM)

    def issue(
        self, *uris: str, dns: tuple[str, ...] = (), ca: bool = False, minutes: int = 60
    ) -> Pair:
        """A leaf with these SANs that ends ``minutes`` from now (before now: expired)."""
        key = ec.generate_private_key(ec.SECP256R1())
        now = dt.datetime.now(dt.UTC)
        names: list[x509.GeneralName] = [
            *(x509.UniformResourceIdentifier(uri) for uri in uris),
            *(x509.DNSName(name) for name in dns),
        ]
        certificate = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "leaf")]))
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=2))
            .not_valid_after(now + dt.timedelta(minutes=minutes))
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(_usage(ca=ca), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage(
                    [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
                ),
                critical=False,
            )
            .sign(self.key, hashes.SHA256())
        )
        return Pair(
            certificate.public_bytes(serialization.Encoding.PEM),
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            ),
        )

    def secrets(
        self, trust_domain: str, own: Pair, https: Pair | None = None
    ) -> dict[str, dict[str, Any]]:
        """The SDS secrets of a proxy, by name, as proto3 JSON."""
        bundle = {
            "name": trust_domain,
            "trust_bundle": {"inline_string": self.root_pem().decode()},
        }
        validator = extension(
            "envoy.tls.cert_validator.spiffe",
            "extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig",
            trust_domains=[bundle],
        )
        made = {
            "default": _tls("default", own),
            "ROOTCA": {
                "name": "ROOTCA",
                "validation_context": {"custom_validator_config": validator},
            },
        }
        return made | ({"gateway-https": _tls("gateway-https", https)} if https else {})


def _tls(name: str, pair: Pair) -> dict[str, Any]:
    return {
        "name": name,
        "tls_certificate": {
            "certificate_chain": {"inline_string": pair.certificate.decode()},
            "private_key": {"inline_string": pair.private_key.decode()},
        },
    }


def _usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=ca,
        crl_sign=ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
