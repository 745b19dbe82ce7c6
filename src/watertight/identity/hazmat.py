"""DANGER: hands out the issuing key itself. Whoever holds it can be anybody in the trust domain.

Only the prover may use this, to forge the credentials with which it attacks the running system:
a forged SVID that is refused proves more than one that nobody could have made. Each use is
recorded in the authority's audit log, with its reason. The key must stay in memory, and what is
forged with it in a private directory that is removed at the end.
"""

import contextlib
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509

from watertight.identity.audit import AuditLog
from watertight.identity.clock import Clock, system_clock
from watertight.identity.errors import DamagedState, IdentityError
from watertight.identity.holding import AUDIT_FILE
from watertight.identity.journal import Journal
from watertight.identity.kek import KEK
from watertight.identity.keys import PrivateKey, from_pkcs8
from watertight.identity.slots import Kind, Status

ATTEMPTS = 3
"""The authority may rotate between our two reads: then the key of the first is gone."""


@dataclass(frozen=True, slots=True)
class IssuerKey:
    """The active issuing intermediate with its private key; ``chain`` is what a leaf needs."""

    certificate: x509.Certificate
    private_key: PrivateKey = field(repr=False)
    chain: tuple[x509.Certificate, ...]


def open_issuer(directory: Path, *, kek: KEK, reason: str, now: Clock = system_clock) -> IssuerKey:
    """The issuing key of the authority in ``directory``, which may be in use by its process.

    Raises ``IdentityError`` without a reason, or if it cannot be recorded, ``DamagedState``
    without an authority, ``KeyUnavailable``.
    """
    if not reason:
        raise IdentityError("The issuing key is not handed out without a reason.")
    # Read before the log is opened, which would make the directory of an authority that is none.
    opened = _opened(Journal(directory), kek)
    audit = AuditLog(directory / AUDIT_FILE, now)
    try:
        audit.record("issuing_key_handed_out", reason=reason)
    finally:
        audit.close()
    return opened


def _opened(journal: Journal, kek: KEK) -> IssuerKey:
    for _ in range(ATTEMPTS - 1):
        with contextlib.suppress(DamagedState):
            return _open(journal, kek)
    return _open(journal, kek)


def _open(journal: Journal, kek: KEK) -> IssuerKey:
    state = journal.read()
    slot = state.one(Kind.ISSUER, Status.ACTIVE)
    if slot is None:
        raise IdentityError("The authority has no active issuer yet.")
    certificate = slot.x509
    key = from_pkcs8(journal.load_key(slot.id, kek, state.trust_domain))
    return IssuerKey(certificate, key, (certificate,))
