"""The authority's slots: which keys sign, which are about to, which still must be trusted.

Three kinds of authority (root, issuing intermediate, JWT signer) each pass through *prepared*
(published, signs nothing yet), *active* (signs) and *old* (signs nothing any more, still trusted).
At most one of a kind is prepared and, once the authority is founded, exactly one is active.

Everything here is a pure function from one state to the next; ``journal.py`` makes it durable.
"""

import datetime as dt
from collections.abc import Callable
from enum import StrEnum
from typing import Self

from cryptography import x509
from pydantic import BaseModel, ConfigDict, model_validator

from watertight.identity.errors import RotationRefused


class Kind(StrEnum):
    """What a slot's key signs: intermediates, X.509-SVIDs, or JWT-SVIDs."""

    ROOT = "root"
    ISSUER = "issuer"
    JWT = "jwt"


class Status(StrEnum):
    """Where a slot is in its life (SPIRE's words)."""

    PREPARED = "prepared"
    ACTIVE = "active"
    OLD = "old"


class Slot(BaseModel):
    """One authority. Its private key, if still kept, is the sealed file ``keys/<id>.key``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    kind: Kind
    status: Status
    not_before: dt.datetime
    not_after: dt.datetime
    prepared_at: dt.datetime
    certificate: str | None = None
    """PEM; a JWT authority has none."""
    public_key: str | None = None
    """PEM (SubjectPublicKeyInfo) of a JWT authority."""
    parent: str | None = None
    """The root that signed an issuer."""
    published_in: int = 0
    """The sequence number of the first bundle that held it (roots and JWT authorities)."""
    tainted: bool = False
    """What it signed must be issued anew, though it is still trusted."""

    @property
    def x509(self) -> x509.Certificate:
        """The certificate of a root or an issuer."""
        if self.certificate is None:
            raise ValueError(f"slot {self.id} has no certificate")
        return x509.load_pem_x509_certificate(self.certificate.encode())

    def is_valid(self, now: dt.datetime) -> bool:
        """Whether ``now`` lies within its life."""
        return self.not_before <= now < self.not_after


class AuthorityState(BaseModel):
    """All that the journal keeps. ``sequence`` grows with each change of the trust bundle."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    trust_domain: str
    sequence: int = 0
    slots: tuple[Slot, ...] = ()
    revoked: frozenset[str] = frozenset()

    @model_validator(mode="after")
    def _one_of_each(self) -> Self:
        for kind in Kind:
            for status in (Status.PREPARED, Status.ACTIVE):
                if len(self.all(kind, status)) > 1:
                    raise ValueError(f"more than one {status} {kind}")
        return self

    def all(self, kind: Kind, *statuses: Status) -> tuple[Slot, ...]:
        """The slots of a kind, in the order in which they were prepared."""
        return tuple(s for s in self.slots if s.kind is kind and s.status in (statuses or Status))

    def one(self, kind: Kind, status: Status) -> Slot | None:
        """The prepared or active slot of a kind."""
        for slot in self.slots:
            if slot.kind is kind and slot.status is status:
                return slot
        return None

    def slot(self, slot_id: str) -> Slot:
        """The slot with that id. Raises ``RotationRefused`` if there is none."""
        for slot in self.slots:
            if slot.id == slot_id:
                return slot
        raise RotationRefused(
            f"There is no authority {slot_id}.", remedy="`watertight status` lists them."
        )


def _published(kind: Kind) -> bool:
    # Issuers travel with the SVIDs that they sign; only anchors stand in the bundle.
    return kind in {Kind.ROOT, Kind.JWT}


def with_prepared(state: AuthorityState, slot: Slot) -> AuthorityState:
    """Adds a new slot, published from now on. One that was prepared before gives way to it."""
    kept = tuple(s for s in state.slots if (s.kind, s.status) != (slot.kind, Status.PREPARED))
    sequence = state.sequence + _published(slot.kind)
    added = slot.model_copy(update={"status": Status.PREPARED, "published_in": sequence})
    return _replaced(state, sequence=sequence, slots=(*kept, added))


def with_activated(state: AuthorityState, kind: Kind) -> AuthorityState:
    """The prepared slot of a kind becomes active, and the active one old."""
    if state.one(kind, Status.PREPARED) is None:
        raise RotationRefused(
            f"No {kind} is prepared.", remedy="Prepare one first: it is published before it signs."
        )
    moves = {Status.PREPARED: Status.ACTIVE, Status.ACTIVE: Status.OLD}
    slots = tuple(
        s.model_copy(update={"status": moves.get(s.status, s.status)}) if s.kind is kind else s
        for s in state.slots
    )
    return _replaced(state, slots=slots)


def with_tainted(state: AuthorityState, slot_id: str) -> AuthorityState:
    """Marks an *old* slot, and the issuers below it, as tainted."""
    slot = state.slot(slot_id)
    if slot.status is not Status.OLD:
        raise RotationRefused(
            f"The {slot.kind} {slot_id} is {slot.status}: what it signed could not be replaced.",
            remedy="Activate another one first, then taint it.",
        )
    return _with(state, lambda s: slot_id in {s.id, s.parent}, {"tainted": True})


def without(state: AuthorityState, slot_ids: frozenset[str]) -> AuthorityState:
    """Drops slots, and the issuers below dropped roots. Nobody trusts them from now on."""
    gone = [s for s in state.slots if s.id in slot_ids or s.parent in slot_ids]
    if any(s.status is Status.ACTIVE for s in gone):
        raise RotationRefused("An active authority cannot be dropped.")
    slots = tuple(s for s in state.slots if s not in gone)
    sequence = state.sequence + any(_published(s.kind) for s in gone)
    return _replaced(state, sequence=sequence, slots=slots)


def with_revoked(state: AuthorityState, revoked: frozenset[str]) -> AuthorityState:
    """Sets which SPIFFE IDs get nothing."""
    return _replaced(state, revoked=revoked)


def _with(
    state: AuthorityState, which: Callable[[Slot], bool], update: dict[str, object]
) -> AuthorityState:
    slots = tuple(s.model_copy(update=update) if which(s) else s for s in state.slots)
    return _replaced(state, slots=slots)


def _replaced(state: AuthorityState, **fields: object) -> AuthorityState:
    # Built anew rather than copied, so that the invariants are checked again.
    return AuthorityState(**{**dict(state), **fields})
