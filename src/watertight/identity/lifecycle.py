"""The life of the authority's keys: founded, prepared, activated, retired, and healed.

Every change is one commit of the journal, so a crash leaves the state before or after it. Private
keys of old slots are destroyed with the commit that makes them old: nothing needs them any more.
"""

import errno

from cryptography import x509

from watertight.errors import WITHOUT_ROOM
from watertight.identity import slots
from watertight.identity.audit import AuditLog
from watertight.identity.clock import Clock, seconds
from watertight.identity.errors import IdentityError, NotWrittenDown, RotationRefused
from watertight.identity.journal import Journal
from watertight.identity.kek import KEK
from watertight.identity.keys import PrivateKey, from_pkcs8, to_pkcs8
from watertight.identity.minting import Mint, Minted, Parent
from watertight.identity.retirement import RetirementEvidence, check_retirement
from watertight.identity.settings import AuthoritySettings, activate_at, prepare_at
from watertight.identity.slots import AuthorityState, Kind, Slot, Status


class Lifecycle:
    """Owns the state and the keys of one authority. Not thread-safe: the authority locks."""

    def __init__(
        self,
        journal: Journal,
        state: AuthorityState,
        kek: KEK,
        settings: AuthoritySettings,
        *,
        audit: AuditLog,
        now: Clock,
    ) -> None:
        self._journal = journal
        self._kek = kek
        self._settings = settings
        self._audit = audit
        self._now = now
        self._mint = Mint(state.trust_domain, settings, now)
        self.state = state
        self._written = state
        self._unrecorded = False
        """Whether somebody is distrusted of whom the audit log has no line."""
        self._keys: dict[str, PrivateKey] = {}
        self._certificates: dict[str, x509.Certificate] = {}

    # --- what signs -------------------------------------------------------------------------

    def active(self, kind: Kind) -> Slot:
        """The slot that signs. Raises ``RotationRefused`` before the authority is founded."""
        slot = self.state.one(kind, Status.ACTIVE)
        if slot is None:
            raise RotationRefused(f"No {kind} is active.")
        return slot

    def certificate(self, slot: Slot) -> x509.Certificate:
        """The parsed certificate of a slot, kept for the next time."""
        if slot.id not in self._certificates:
            self._certificates[slot.id] = slot.x509
        return self._certificates[slot.id]

    def key(self, slot: Slot) -> PrivateKey:
        """The private key of a prepared or active slot; roots' are not kept in memory."""
        if slot.id in self._keys:
            return self._keys[slot.id]
        pkcs8 = self._journal.load_key(slot.id, self._kek, self.state.trust_domain)
        key = from_pkcs8(pkcs8)
        if slot.kind is not Kind.ROOT:
            self._keys[slot.id] = key
        return key

    def check_keys(self) -> None:
        """Raises ``KeyUnavailable`` or ``DamagedState`` unless every key that signs can be had."""
        for kind in Kind:
            if (slot := self.state.one(kind, Status.ACTIVE)) is not None:
                self.key(slot)

    # --- by hand ----------------------------------------------------------------------------

    def prepare(self, kind: Kind) -> Slot:
        """Makes and publishes the successor of the active slot; it signs nothing yet."""
        minted = self._minted(kind)
        self._commit(slots.with_prepared(self.state, minted.slot), "prepared", minted)
        return self.state.slot(minted.slot.id)

    def activate(self, kind: Kind) -> Slot:
        """The prepared slot starts to sign. A root brings an issuer of its own with it."""
        state = slots.with_activated(self.state, kind)
        minted = []
        if kind is Kind.ROOT:
            root = state.one(Kind.ROOT, Status.ACTIVE)
            assert root is not None  # noqa: S101 - with_activated made it
            issuer = self._mint.issuer(Parent(root, self.key(root)))
            state = slots.with_prepared(state, issuer.slot)
            state = slots.with_activated(state, Kind.ISSUER)
            minted = [issuer]
        self._commit(state, "activated", *minted)
        return self.active(kind)

    def taint(self, slot_id: str) -> None:
        """What an old slot signed must be issued anew."""
        self._commit(slots.with_tainted(self.state, slot_id), "tainted")

    def retire(self, root_id: str, evidence: RetirementEvidence) -> None:
        """Drops an old root that nothing needs any more."""
        check_retirement(self.state, self.state.slot(root_id), evidence, self._now())
        self._commit(slots.without(self.state, frozenset({root_id})), "retired")

    def revoke(self, spiffe_id: str) -> None:
        """This SPIFFE ID gets nothing any more: at once, whatever the disk says.

        Raises ``NotWrittenDown``; then :meth:`write_down`, and each tick, tries that again.
        """
        if spiffe_id not in self.state.revoked:
            self.state = slots.with_revoked(self.state, self.state.revoked | {spiffe_id})
            self._unrecorded = True
        self.write_down()

    @property
    def is_written_down(self) -> bool:
        """Whether whoever opens it after a crash knows of every revocation."""
        return self.state is self._written

    def restore(self, spiffe_id: str) -> None:
        """It may have SVIDs again, once that is written down."""
        state = slots.with_revoked(self.state, self.state.revoked - {spiffe_id})
        self._commit(state, "revocations")

    def write_down(self) -> None:
        """Writes down the revocations that are in memory only. Raises ``NotWrittenDown``.

        They do not wait for their line in the audit log, as all other changes do: one that is
        forgotten is worse than one that nobody recorded yet.
        """
        wrong: list[OSError | IdentityError] = []
        if self._unrecorded:
            try:
                self._record(self.state, "revocations")
                self._unrecorded = False
            except (OSError, IdentityError) as error:
                wrong.append(error)
        if self.state is not self._written:
            try:
                self._journal.commit(self.state)
                self._written = self.state
            except OSError as error:
                wrong.append(error)
        if wrong:
            raise NotWrittenDown(wrong[-1], forgotten=self.state is not self._written)

    # --- by the clock -----------------------------------------------------------------------

    def heal(self) -> bool:
        """Makes anew whatever signs and is not valid now; returns whether it had to.

        After a sleep past every TTL, or a clock that jumped, no chain is valid that publication
        could spare: the new authority signs at once.
        """
        healed = False
        if not self._is_usable(Kind.ROOT):
            self._replace_now(Kind.ROOT)
            healed = True
        for kind in (Kind.ISSUER, Kind.JWT):
            if not self._is_usable(kind):
                self._replace_now(kind)
                healed = True
        return healed

    def tick(self) -> bool:
        """Does what the schedule asks for now; returns whether anything changed."""
        before = self.state
        self._journal.set_aside()  # there may be room now
        try:
            self.heal()
            for kind in Kind:
                self._follow_schedule(kind)
            self._prune()
        finally:
            self.write_down()
        return self.state is not before

    def sweep(self) -> None:
        """Removes keys that nothing needs: after a crash, or after a commit."""
        wanted = {s.id for s in self.state.slots if s.status is not Status.OLD}
        self._journal.sweep(frozenset(wanted))
        self._journal.set_aside()
        self._keys = {i: k for i, k in self._keys.items() if i in wanted}
        known = {s.id for s in self.state.slots}
        self._certificates = {i: c for i, c in self._certificates.items() if i in known}

    def _is_usable(self, kind: Kind) -> bool:
        slot, now = self.state.one(kind, Status.ACTIVE), self._now()
        if slot is None or not slot.is_valid(now):
            return False
        return slot.parent is None or self.state.slot(slot.parent).is_valid(now)

    def _replace_now(self, kind: Kind) -> None:
        prepared = self.state.one(kind, Status.PREPARED)
        # A prepared one that is valid is already known to everybody: nothing could be better.
        if prepared is None or not prepared.is_valid(self._now()):
            if kind is Kind.ROOT:
                self._found_root()
                return
            self.prepare(kind)
        self.activate(kind)

    def _found_root(self) -> None:
        # In one commit: between two, a crash would leave a root that has no issuer.
        root = self._mint.root()
        issuer = self._mint.issuer(Parent(root.slot, root.key))
        state = slots.with_activated(slots.with_prepared(self.state, root.slot), Kind.ROOT)
        state = slots.with_activated(slots.with_prepared(state, issuer.slot), Kind.ISSUER)
        self._commit(state, "founded", root, issuer)

    def _follow_schedule(self, kind: Kind) -> None:
        now = self._now()
        active, prepared = self.active(kind), self.state.one(kind, Status.PREPARED)
        if now >= prepare_at(active) and (prepared is None or not prepared.is_valid(now)):
            prepared = self.prepare(kind)
        if prepared is None or now < activate_at(active):
            return
        wait = 0.0 if kind is Kind.ISSUER else self._settings.publication_seconds
        if now >= prepared.prepared_at + seconds(wait):
            self.activate(kind)

    def _prune(self) -> None:
        limit = self._now() - seconds(self._settings.bundle_grace_seconds)
        gone = {s.id for s in self.state.slots if s.status is Status.OLD and s.not_after < limit}
        if gone:
            self._commit(slots.without(self.state, frozenset(gone)), "pruned")

    def _minted(self, kind: Kind) -> Minted:
        match kind:
            case Kind.ROOT:
                return self._mint.root()
            case Kind.ISSUER:
                root = self.active(Kind.ROOT)
                return self._mint.issuer(Parent(root, self.key(root)))
            case Kind.JWT:
                return self._mint.jwt()

    def _commit(self, state: AuthorityState, event: str, *minted: Minted) -> None:
        try:
            self._write(state, event, *minted)
        except OSError as error:
            raise IdentityError(
                f"The authority's state cannot be written: {error.strerror}.",
                remedy="Make room or mend the disk; what was in force still is. "
                + (WITHOUT_ROOM if error.errno == errno.ENOSPC else ""),
            ) from None
        self.state = self._written = state
        self._unrecorded = False
        self.sweep()

    def _write(self, state: AuthorityState, event: str, *minted: Minted) -> None:
        for new in minted:
            pkcs8 = to_pkcs8(new.key)
            self._journal.store_key(new.slot.id, pkcs8, self._kek, state.trust_domain)
        # The record comes first: a crash may leave one of a change that never was, but never a
        # change without its record.
        self._record(state, event)
        self._journal.commit(state)

    def _record(self, state: AuthorityState, event: str) -> None:
        self._audit.record(
            f"authority_{event}",
            sequence=state.sequence,
            slots=[f"{s.kind} {s.id} {s.status}" for s in state.slots],
            revoked=sorted(state.revoked),
        )
        self._audit.sync()
