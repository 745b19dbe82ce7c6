"""Kinds of key pairs that we make, and how each signs."""

from enum import StrEnum
from typing import TypeAlias

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

PrivateKey: TypeAlias = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
PublicKey: TypeAlias = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey
SigningHash: TypeAlias = hashes.SHA256 | hashes.SHA384 | None


class KeyType(StrEnum):
    """The key pairs that an SVID or an authority may have.

    Envoy offers no Ed25519 in its TLS handshakes: ``ED25519`` suits authorities whose SVIDs go to
    other software only.
    """

    ECDSA_P256 = "ecdsa-p256"
    ECDSA_P384 = "ecdsa-p384"
    ED25519 = "ed25519"


def generate(key_type: KeyType) -> PrivateKey:
    """A fresh private key."""
    match key_type:
        case KeyType.ECDSA_P256:
            return ec.generate_private_key(ec.SECP256R1())
        case KeyType.ECDSA_P384:
            return ec.generate_private_key(ec.SECP384R1())
        case KeyType.ED25519:
            return ed25519.Ed25519PrivateKey.generate()


def signing_hash(key: PrivateKey) -> SigningHash:
    """The hash with which a key signs certificates; None where the scheme has its own."""
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return None
    return hashes.SHA384() if key.key_size > 256 else hashes.SHA256()


def key_type_of(public_key: object) -> KeyType | None:
    """Which of our key types a public key is; None for every other kind, curve and size."""
    if isinstance(public_key, ed25519.Ed25519PublicKey):
        return KeyType.ED25519
    if isinstance(public_key, ec.EllipticCurvePublicKey):
        curves = {"secp256r1": KeyType.ECDSA_P256, "secp384r1": KeyType.ECDSA_P384}
        return curves.get(public_key.curve.name)
    return None


def to_pkcs8(key: PrivateKey) -> bytes:
    """The key as *unencrypted* PKCS#8 DER: for a seal or a workload, never for a disk."""
    return key.private_bytes(
        serialization.Encoding.DER,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def from_pkcs8(der: bytes) -> PrivateKey:
    """The key in PKCS#8 DER. Raises ``ValueError`` if it is none of our types."""
    key = serialization.load_der_private_key(der, password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey):
        raise ValueError("the key is neither an elliptic-curve key nor Ed25519")
    return key
