"""Makes the authority's own key pairs and certificates, checked before anything names them."""

import secrets
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from watertight.identity import profiles, recheck
from watertight.identity.clock import Clock, seconds
from watertight.identity.keys import KeyType, PrivateKey, generate, signing_hash
from watertight.identity.profiles import AuthorityTemplate, Validity
from watertight.identity.settings import AuthoritySettings
from watertight.identity.slots import Kind, Slot, Status

ID_BYTES = 8

ROOT_PATH_LENGTH = 1
"""One intermediate below a root, and no more."""


@dataclass(frozen=True, slots=True)
class Minted:
    """A new slot (not yet in any state) and its private key."""

    slot: Slot
    key: PrivateKey = field(repr=False)


@dataclass(frozen=True, slots=True)
class Parent:
    """The root that signs an issuer."""

    slot: Slot
    key: PrivateKey = field(repr=False)


class Mint:
    """Makes authorities for one trust domain."""

    def __init__(self, trust_domain: str, settings: AuthoritySettings, now: Clock) -> None:
        self._trust_domain = trust_domain
        self._settings = settings
        self._now = now

    def root(self) -> Minted:
        """A new self-signed root."""
        slot_id, key = secrets.token_hex(ID_BYTES), generate(self._settings.key_type)
        template = self._template(slot_id, Kind.ROOT, key, None)
        certificate = profiles.root(template).sign(key, signing_hash(key))
        return Minted(self._slot(slot_id, Kind.ROOT, certificate, certificate), key)

    def issuer(self, parent: Parent) -> Minted:
        """A new issuing intermediate, signed by ``parent``, which it does not outlive."""
        slot_id, key = secrets.token_hex(ID_BYTES), generate(self._settings.key_type)
        template = self._template(slot_id, Kind.ISSUER, key, parent.slot)
        above = parent.slot.x509
        certificate = profiles.issuer(template, above).sign(parent.key, signing_hash(parent.key))
        slot = self._slot(slot_id, Kind.ISSUER, certificate, above)
        return Minted(slot.model_copy(update={"parent": parent.slot.id}), key)

    def jwt(self) -> Minted:
        """A new JWT authority: a bare ECDSA key (J2 has no EdDSA)."""
        p384 = self._settings.key_type is KeyType.ECDSA_P384
        key = generate(KeyType.ECDSA_P384 if p384 else KeyType.ECDSA_P256)
        validity = self._validity(Kind.JWT, None)
        pem = key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        slot = Slot(
            id=secrets.token_hex(ID_BYTES),
            kind=Kind.JWT,
            status=Status.PREPARED,
            not_before=validity.not_before,
            not_after=validity.not_after,
            prepared_at=self._now(),
            public_key=pem.decode(),
        )
        return Minted(slot, key)

    def _template(
        self, slot_id: str, kind: Kind, key: PrivateKey, parent: Slot | None
    ) -> AuthorityTemplate:
        return AuthorityTemplate(
            trust_domain=self._trust_domain,
            # The id makes each Subject unique: two roots of one name would confuse path building.
            label=f"{kind} {slot_id}",
            public_key=key.public_key(),
            validity=self._validity(kind, parent),
            path_length=ROOT_PATH_LENGTH if parent is None else ROOT_PATH_LENGTH - 1,
        )

    def _validity(self, kind: Kind, parent: Slot | None) -> Validity:
        now = self._now().replace(microsecond=0)
        start = now - seconds(self._settings.backdate_seconds)
        end = now + seconds(self._settings.ttl_seconds(kind))
        if parent is not None:
            start, end = max(start, parent.not_before), min(end, parent.not_after)
        return Validity(start, end)

    def _slot(
        self, slot_id: str, kind: Kind, certificate: x509.Certificate, signer: x509.Certificate
    ) -> Slot:
        recheck.check_authority(certificate)
        certificate.verify_directly_issued_by(signer)
        return Slot(
            id=slot_id,
            kind=kind,
            status=Status.PREPARED,
            not_before=certificate.not_valid_before_utc,
            not_after=certificate.not_valid_after_utc,
            prepared_at=self._now(),
            certificate=certificate.public_bytes(serialization.Encoding.PEM).decode(),
        )
