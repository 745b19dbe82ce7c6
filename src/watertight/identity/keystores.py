"""An SVID and its bundle as PKCS#12, for software of Java and .NET, which reads no PEM.

Both stores have a password because their readers insist on one (``KeyManagerFactory``, Kafka's
``ssl.keystore.password``, JDBC). It is the same everywhere and no secret: what protects the key is
the file's mode, as with the PEM files beside it. A random password would have to lie beside the
file and would protect nothing more; so the key derivation is also as cheap as it may be.

The algorithms are PBES2 (AES-256, PBKDF2-SHA-256) and a MAC with SHA-256: OpenSSL 3, Java from
11.0.12 and .NET read them without a legacy provider, and FIPS modules as well.
"""

from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import (
    KeySerializationEncryption,
    PrivateFormat,
    load_der_private_key,
    pkcs12,
)

from watertight.identity.errors import IdentityError
from watertight.identity.keys import from_pkcs8
from watertight.identity.svid import X509SVID, TrustBundle

PASSWORD = "watertight"  # noqa: S105 - public, see above
"""Of every store."""
KEYSTORE = "keystore.p12"
"""The private key and its chain, under the workload's name."""
TRUSTSTORE = "truststore.p12"
"""The roots, each marked as trusted in the way that Java asks for."""
PRIVATE_KEY_DER = "private_key.der"
"""The key as PKCS#8 DER, which the PostgreSQL driver of Java takes as ``sslkey``."""
_ROUNDS = 1000


class KeystoreMismatch(IdentityError):
    """A store does not hold what stands beside it as PEM."""


def keystore(svid: X509SVID) -> bytes:
    """The SVID as PKCS#12. Not the same bytes twice: the salts are random."""
    alias = svid.spiffe_id.rpartition("/")[2].encode()
    key, rest = from_pkcs8(svid.private_key_der), list(svid.chain[1:])
    return pkcs12.serialize_key_and_certificates(alias, key, svid.leaf, rest, _encryption())


def truststore(bundle: TrustBundle) -> bytes:
    """The roots (at least one) as PKCS#12 of trusted certificates."""
    entries = [
        pkcs12.PKCS12Certificate(root, f"root-{number}".encode())
        for number, root in enumerate(bundle.authorities, start=1)
    ]
    return pkcs12.serialize_java_truststore(entries, _encryption())


def check_stores(directory: Path) -> None:
    """Reads the stores back and compares them with the PEM files in the same directory.

    Raises :class:`KeystoreMismatch`.
    """
    try:
        held = pkcs12.load_pkcs12((directory / KEYSTORE).read_bytes(), PASSWORD.encode())
        trusted = pkcs12.load_pkcs12((directory / TRUSTSTORE).read_bytes(), PASSWORD.encode())
        key = load_der_private_key((directory / PRIVATE_KEY_DER).read_bytes(), password=None)
    except ValueError as error:
        raise KeystoreMismatch(f"The new keystore cannot be read back ({error}).") from error
    chain = x509.load_pem_x509_certificates((directory / "certificate.pem").read_bytes())
    roots = x509.load_pem_x509_certificates((directory / "bundle.pem").read_bytes())
    leaf = held.cert.certificate if held.cert else None
    if (
        [leaf, *(extra.certificate for extra in held.additional_certs)] != chain
        or [extra.certificate for extra in trusted.additional_certs] != roots
        or any(k is None or k.public_key() != chain[0].public_key() for k in (held.key, key))
    ):
        raise KeystoreMismatch("The new keystore does not hold the new SVID.")


def _encryption() -> KeySerializationEncryption:
    return (
        PrivateFormat.PKCS12.encryption_builder()
        .kdf_rounds(_ROUNDS)
        .key_cert_algorithm(pkcs12.PBES.PBESv2SHA256AndAES256CBC)
        .hmac_hash(hashes.SHA256())
        .build(PASSWORD.encode())
    )
