"""Secrets for a validation that looks at their form only."""

import datetime as dt
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


def secrets() -> dict[str, dict[str, Any]]:
    """One self-signed certificate in every role, by SDS name, as proto3 JSON."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = dt.datetime.now(dt.UTC)
    nobody = x509.Name([])
    uri = x509.UniformResourceIdentifier("spiffe://shop.internal/any")
    certificate = (
        x509.CertificateBuilder()
        .subject_name(nobody)
        .issuer_name(nobody)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([uri]), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = {"inline_string": certificate.public_bytes(serialization.Encoding.PEM).decode()}
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    pair = {"certificate_chain": pem, "private_key": {"inline_string": secret.decode()}}
    bodies: dict[str, dict[str, Any]] = {
        "default": {"tls_certificate": pair},
        "gateway-https": {"tls_certificate": pair},
        "ROOTCA": {"validation_context": {"trusted_ca": pem}},
    }
    return {name: {"name": name, **body} for name, body in bodies.items()}
