"""How long things live, and when they are replaced. Every duration is in seconds."""

import datetime as dt
from dataclasses import dataclass

from watertight.identity.clock import seconds
from watertight.identity.errors import IdentityError
from watertight.identity.keys import KeyType
from watertight.identity.slots import Kind, Slot

HOUR = 3600.0
DAY = 24 * HOUR

MIN_ISSUER_TO_SVID = 6
"""An issuer is replaced in its last sixth, so a leaf of that length is never cut short."""


@dataclass(frozen=True, slots=True)
class AuthoritySettings:
    """The authority's settings; the defaults are for a mesh of services. See each field."""

    key_type: KeyType = KeyType.ECDSA_P256
    """Of roots and issuers made from now on. JWT authorities use ES384 with P-384, else ES256."""
    root_ttl_seconds: float = 365 * DAY
    issuer_ttl_seconds: float = 7 * DAY
    jwt_authority_ttl_seconds: float = 7 * DAY
    svid_ttl_seconds: float = HOUR
    max_svid_ttl_seconds: float = DAY
    """Nobody may ask for more."""
    jwt_svid_ttl_seconds: float = 300
    """J10: short, since a bearer token cannot be revoked."""
    backdate_seconds: float = 60
    """Certificates start this long before they are made: a peer whose clock lags by less does not
    refuse a fresh SVID as not yet valid."""
    publication_seconds: float = 300
    """A scheduled activation waits at least this long after publication, so that every subscriber
    has the new anchor before anything is signed below it."""
    bundle_grace_seconds: float = DAY
    """How long an expired anchor stays in the bundle (clocks differ; it trusts nothing)."""

    def __post_init__(self) -> None:
        """Raises ``IdentityError`` if the durations contradict one another."""
        if min(self.svid_ttl_seconds, self.jwt_svid_ttl_seconds, self.max_svid_ttl_seconds) <= 0:
            raise IdentityError("The life of an SVID must be longer than nothing.")
        if self.svid_ttl_seconds > self.max_svid_ttl_seconds:
            raise IdentityError("The default life of an SVID exceeds the longest allowed one.")
        if self.issuer_ttl_seconds < MIN_ISSUER_TO_SVID * self.svid_ttl_seconds:
            raise IdentityError(
                f"An issuer must live {MIN_ISSUER_TO_SVID} times as long as an SVID, at least.",
                remedy="Raise issuer_ttl_seconds or lower svid_ttl_seconds.",
            )
        if self.root_ttl_seconds < self.issuer_ttl_seconds:
            raise IdentityError("A root must live at least as long as an issuer.")

    def ttl_seconds(self, kind: Kind) -> float:
        """The life of a new authority of a kind."""
        return {
            Kind.ROOT: self.root_ttl_seconds,
            Kind.ISSUER: self.issuer_ttl_seconds,
            Kind.JWT: self.jwt_authority_ttl_seconds,
        }[kind]


def prepare_at(slot: Slot) -> dt.datetime:
    """When the successor of an active slot is made: SPIRE's threshold."""
    life = slot.not_after - slot.prepared_at
    return slot.not_after - min(life / 2, seconds(30 * DAY))


def activate_at(slot: Slot) -> dt.datetime:
    """When the successor of an active slot starts to sign: SPIRE's threshold."""
    life = slot.not_after - slot.prepared_at
    return slot.not_after - min(life / 6, seconds(7 * DAY))
