"""Whether an old root may go: only evidence says so, never a guess at how long things take."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from watertight.identity.clock import seconds
from watertight.identity.errors import RotationRefused
from watertight.identity.slots import AuthorityState, Kind, Slot, Status

MAX_EVIDENCE_AGE_SECONDS = 60.0
"""Older evidence says nothing about what is live now."""


@dataclass(frozen=True, slots=True)
class RetirementEvidence:
    """What was seen of the living system.

    ``live_issuers`` holds the fingerprint (:func:`issuer_fingerprint`) of the intermediate of
    every SVID that is in use anywhere. ``acknowledged_sequence`` is the lowest sequence number of
    a trust bundle that any live subscriber has acknowledged as its latest.
    """

    live_issuers: frozenset[str]
    acknowledged_sequence: int
    observed_at: dt.datetime


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 of the DER, in hexadecimal."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def issuer_fingerprint(chain: Sequence[x509.Certificate]) -> str:
    """The fingerprint of the intermediate in an SVID's chain (leaf first)."""
    return fingerprint(chain[1])


def check_retirement(
    state: AuthorityState, root: Slot, evidence: RetirementEvidence, now: dt.datetime
) -> None:
    """Raises ``RotationRefused`` unless nothing that lives still needs the root."""
    if (root.kind, root.status) != (Kind.ROOT, Status.OLD):
        raise RotationRefused(
            f"{root.id} is the {root.status} {root.kind}; only an old root can retire.",
            remedy="Activate its successor first.",
        )
    if not seconds(0) <= now - evidence.observed_at <= seconds(MAX_EVIDENCE_AGE_SECONDS):
        raise RotationRefused(
            f"The evidence is not from the last {MAX_EVIDENCE_AGE_SECONDS:g} s.",
            remedy="Observe the system again.",
        )
    active = state.one(Kind.ROOT, Status.ACTIVE)
    if active is None or evidence.acknowledged_sequence < active.published_in:
        raise RotationRefused(
            "Not every subscriber has acknowledged the bundle that holds the new root.",
            remedy="Wait for them, or find out which proxy lags: `watertight status`.",
        )
    known = {fingerprint(s.x509): s for s in state.all(Kind.ISSUER)}
    if strangers := evidence.live_issuers - known.keys():
        raise RotationRefused(
            f"{len(strangers)} live SVIDs chain to an issuer that the authority does not know.",
            remedy="Issue them anew: `watertight rotate leaf`.",
        )
    if live := [f for f in evidence.live_issuers if known[f].parent == root.id]:
        raise RotationRefused(
            f"SVIDs below {len(live)} issuers of the root {root.id} are still in use.",
            remedy="Issue them anew: `watertight rotate leaf`.",
        )
