"""The authority of one trust domain: who may sign, and everything that is signed.

The root signs only intermediates; the issuing intermediate signs SVIDs. Issuance is validated
(``requests.py``), built (``profiles.py``), signed, read back by a stranger's eyes
(``recheck.py``) and recorded (``audit.py``) before anything leaves. A leaf never outlives its CA.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from watertight.identity import audit, jwt_svid, profiles, recheck, requests
from watertight.identity.clock import Clock, seconds, system_clock
from watertight.identity.errors import (
    CredentialRejected,
    IdentityError,
    IssuanceRefused,
    RotationRefused,
    TokenRejected,
)
from watertight.identity.holding import Holding
from watertight.identity.kek import KEK
from watertight.identity.keys import signing_hash
from watertight.identity.lifecycle import Lifecycle
from watertight.identity.profiles import LeafTemplate, Validity
from watertight.identity.requests import IssuancePolicy, SVIDRequest
from watertight.identity.retirement import RetirementEvidence, fingerprint
from watertight.identity.settings import AuthoritySettings
from watertight.identity.slots import AuthorityState, Kind, Slot, Status
from watertight.identity.spiffe import SPIFFEID, check_trust_domain
from watertight.identity.svid import TrustBundle

DEFAULT_SETTINGS = AuthoritySettings()


@dataclass(frozen=True, slots=True)
class AuthorityStatus:
    """What a person is shown of the authority."""

    trust_domain: str
    sequence: int
    slots: tuple[Slot, ...]
    revoked: tuple[SPIFFEID, ...]


class Authority:
    """Issues the SVIDs of one trust domain. One process holds it at a time; threads may share it.

    Make it with :meth:`create`, :meth:`open` or :meth:`open_or_create`; close it after use.
    """

    def __init__(self, lifecycle: Lifecycle, held: Holding, settings: AuthoritySettings) -> None:
        """For the constructors below."""
        self._lifecycle = lifecycle
        self._held = held
        self._settings = settings
        self._audit = held.audit
        self._now = held.now
        self._lock = threading.RLock()
        self._revoked = self._read_revoked()

    @classmethod
    def create(
        cls,
        directory: Path,
        trust_domain: str,
        *,
        kek: KEK,
        settings: AuthoritySettings = DEFAULT_SETTINGS,
        now: Clock = system_clock,
    ) -> Self:
        """Founds a new authority in ``directory`` (made 0700).

        Raises ``MalformedSPIFFEID`` for the trust domain, ``IdentityError`` if there is one
        already, ``AuthorityBusy`` if another process is at it.
        """
        _check_name(trust_domain)
        held = Holding.take(directory, now)
        with held.released_on_error():
            if held.journal.exists():
                raise IdentityError(
                    f"There already is an authority in {directory}.", remedy="Open that one."
                )
            return cls._start(held, AuthorityState(trust_domain=trust_domain), kek, settings)

    @classmethod
    def open(
        cls,
        directory: Path,
        *,
        kek: KEK,
        settings: AuthoritySettings = DEFAULT_SETTINGS,
        now: Clock = system_clock,
    ) -> Self:
        """Opens the authority in ``directory``, and heals it if its clock has run out.

        Raises ``DamagedState``, ``KeyUnavailable`` (wrong KEK) or ``AuthorityBusy``.
        """
        held = Holding.take(directory, now)
        with held.released_on_error():
            return cls._start(held, held.journal.read(), kek, settings)

    @classmethod
    def open_or_create(
        cls,
        directory: Path,
        trust_domain: str,
        *,
        kek: KEK,
        settings: AuthoritySettings = DEFAULT_SETTINGS,
        now: Clock = system_clock,
    ) -> Self:
        """Opens the authority, or founds it.

        Raises what :meth:`create` and :meth:`open` do; ``IdentityError`` if it has another name.
        """
        _check_name(trust_domain)
        held = Holding.take(directory, now)
        with held.released_on_error():
            founded = held.journal.exists()
            state = held.journal.read() if founded else AuthorityState(trust_domain=trust_domain)
            if state.trust_domain != trust_domain:
                raise IdentityError(
                    f"The authority in {directory} is that of {state.trust_domain}, "
                    f"not of {trust_domain}.",
                    remedy="Restore the old name, or remove the directory to found a new "
                    "authority.",
                )
            return cls._start(held, state, kek, settings)

    @classmethod
    def _start(
        cls, held: Holding, state: AuthorityState, kek: KEK, settings: AuthoritySettings
    ) -> Self:
        lifecycle = Lifecycle(held.journal, state, kek, settings, audit=held.audit, now=held.now)
        # Before healing: a wrong KEK must fail here, not seal new keys that the right one cannot
        # open.
        lifecycle.check_keys()
        lifecycle.sweep()
        lifecycle.heal()
        return cls(lifecycle, held, settings)

    def close(self) -> None:
        """Lets go of the directory. Keys in memory are no longer used."""
        self._held.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # --- issue ------------------------------------------------------------------------------

    def issue(self, request: SVIDRequest) -> tuple[x509.Certificate, ...]:
        """Signs an X.509-SVID: the leaf, then the issuing intermediate.

        Raises ``IssuanceRefused`` (a validator said no), ``CredentialRejected`` (what was signed
        breaks a rule: a bug of ours, and nothing leaves), ``IdentityError`` (cannot be recorded).
        """
        with self._lock:
            try:
                chain = self._signed(request)
            except (IssuanceRefused, CredentialRejected) as refusal:
                self._audit.record(
                    "svid_refused", spiffe_id=str(request.spiffe_id), reason=refusal.message
                )
                raise
            self._audit.record(
                "svid_issued",
                spiffe_id=str(request.spiffe_id),
                serial=f"{chain[0].serial_number:x}",
                fingerprint=fingerprint(chain[0]),
                issuer=self._lifecycle.active(Kind.ISSUER).id,
                not_after=chain[0].not_valid_after_utc.isoformat(),
                dns_names=list(request.dns_names),
            )
            return chain

    def _signed(self, request: SVIDRequest) -> tuple[x509.Certificate, ...]:
        public_key = requests.validate(request, self._policy())
        self._lifecycle.heal()
        slot = self._lifecycle.active(Kind.ISSUER)
        issuer, key = self._lifecycle.certificate(slot), self._lifecycle.key(slot)
        validity = self._validity(request, slot)
        template = LeafTemplate(
            request.spiffe_id, request.dns_names, request.role, public_key, validity
        )
        signed = profiles.svid(template, issuer).sign(key, signing_hash(key))
        intent = recheck.Intent(
            spiffe_id=request.spiffe_id,
            dns_names=request.dns_names,
            organizational_unit=request.role,
            public_key_der=public_key.public_bytes(
                serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
            ),
            issuer=issuer,
            root=self._root_of(slot),
            now=self._now(),
            not_after=validity.not_after,
        )
        leaf = recheck.check_issued(signed.public_bytes(serialization.Encoding.DER), intent)
        return leaf, issuer

    def _policy(self) -> IssuancePolicy:
        return IssuancePolicy(self.trust_domain, self.revoked, self._settings.max_svid_ttl_seconds)

    def _validity(self, request: SVIDRequest, slot: Slot) -> Validity:
        now = self._now()
        ttl = request.ttl_seconds or self._settings.svid_ttl_seconds
        start = (now - seconds(self._settings.backdate_seconds)).replace(microsecond=0)
        end = (now + seconds(ttl)).replace(microsecond=0)
        if end <= now:
            raise IssuanceRefused("ttl-is-bounded", "it would end before it is handed over.")
        return Validity(max(start, slot.not_before), min(end, slot.not_after))

    def _root_of(self, issuer: Slot) -> x509.Certificate:
        if issuer.parent is None:
            raise IdentityError(f"The issuer {issuer.id} has no root.")
        return self._lifecycle.certificate(self._lifecycle.state.slot(issuer.parent))

    def issue_jwt_svid(self, spiffe_id: SPIFFEID, audiences: Sequence[str]) -> str:
        """Signs a JWT-SVID (``settings.jwt_svid_ttl_seconds``) for an attested identity.

        Raises ``IssuanceRefused``, or ``TokenRejected`` for a bad list of audiences.
        """
        with self._lock:
            try:
                requests.validate_identity(spiffe_id, self._policy())
                self._lifecycle.heal()
                slot, now = self._lifecycle.active(Kind.JWT), self._now()
                end = now + seconds(self._settings.jwt_svid_ttl_seconds)
                token = jwt_svid.sign(
                    slot.id, self._lifecycle.key(slot), spiffe_id, audiences,
                    issued_at=now, expires_at=min(end, slot.not_after),
                )  # fmt: skip
            except (IssuanceRefused, TokenRejected) as refusal:
                self._audit.record(
                    "jwt_svid_refused", spiffe_id=str(spiffe_id), reason=refusal.message
                )
                raise
            self._audit.record(
                "jwt_svid_issued", spiffe_id=str(spiffe_id), authority=slot.id,
                not_after=min(end, slot.not_after).isoformat(), **audit.audiences(audiences),
            )  # fmt: skip
            return token

    # --- trust ------------------------------------------------------------------------------

    @property
    def trust_domain(self) -> str:
        """The trust domain, without scheme."""
        return self._lifecycle.state.trust_domain

    @property
    def settings(self) -> AuthoritySettings:
        """The settings that are in force."""
        return self._settings

    def bundle(self) -> TrustBundle:
        """The roots that are trusted now: prepared, active and old ones that have not retired."""
        with self._lock:
            state = self._lifecycle.state
            roots = tuple(self._lifecycle.certificate(s) for s in state.all(Kind.ROOT))
            return TrustBundle(state.trust_domain, roots, state.sequence)

    def jwt_bundle(self) -> dict[str, Any]:
        """The JWK Set of the JWT authorities: prepared, active and old ones (J9)."""
        with self._lock:
            slots = self._lifecycle.state.all(Kind.JWT)
            return {"keys": [jwt_svid.jwk(s.id, s.public_key) for s in slots if s.public_key]}

    def is_tainted(self, issuer: x509.Certificate) -> bool:
        """Whether SVIDs of this intermediate must be issued anew; also if it is unknown."""
        with self._lock:
            wanted = fingerprint(issuer)
            for slot in self._lifecycle.state.all(Kind.ISSUER):
                if fingerprint(self._lifecycle.certificate(slot)) == wanted:
                    return slot.tainted
            return True

    # --- rotate -----------------------------------------------------------------------------

    def prepare_issuer(self) -> Slot:
        """Makes the next issuing intermediate, below the active root."""
        with self._lock:
            return self._lifecycle.prepare(Kind.ISSUER)

    def activate_issuer(self) -> Slot:
        """The prepared intermediate signs from now on. SVIDs of the old one stay valid."""
        with self._lock:
            return self._lifecycle.activate(Kind.ISSUER)

    def prepare_root(self) -> Slot:
        """Makes the next root and publishes it in the bundle (whose sequence grows)."""
        with self._lock:
            return self._lifecycle.prepare(Kind.ROOT)

    def activate_root(self, acknowledged_sequence: int) -> Slot:
        """The prepared root signs from now on, through a new intermediate of its own.

        ``acknowledged_sequence`` is the lowest bundle sequence that any live subscriber has
        acknowledged. Raises ``RotationRefused`` if one of them does not know the root yet: it
        would refuse the first SVID below it.
        """
        with self._lock:
            prepared = self._lifecycle.state.one(Kind.ROOT, Status.PREPARED)
            if prepared is not None and acknowledged_sequence < prepared.published_in:
                raise RotationRefused(
                    f"Not every subscriber has the bundle {prepared.published_in} with the new "
                    f"root; the last one has {acknowledged_sequence}.",
                    remedy="Wait until it has, or find out why not: `watertight status`.",
                )
            return self._lifecycle.activate(Kind.ROOT)

    def prepare_jwt(self) -> Slot:
        """Makes the next JWT authority and publishes it."""
        with self._lock:
            return self._lifecycle.prepare(Kind.JWT)

    def activate_jwt(self) -> Slot:
        """The prepared JWT authority signs from now on."""
        with self._lock:
            return self._lifecycle.activate(Kind.JWT)

    def taint(self, slot_id: str) -> None:
        """Everything below an *old* root or issuer must be issued anew, though still trusted."""
        with self._lock:
            self._lifecycle.taint(slot_id)

    def retire_root(self, root_id: str, evidence: RetirementEvidence) -> None:
        """Takes an old root out of the bundle. Raises ``RotationRefused`` if it is still needed."""
        with self._lock:
            self._lifecycle.retire(root_id, evidence)

    def tick(self) -> bool:
        """Does what the clock asks for: heals, prepares, activates, prunes. Call it often.

        Returns whether anything changed.
        """
        with self._lock:
            return self._lifecycle.tick()

    # --- revoke -----------------------------------------------------------------------------

    @property
    def revoked(self) -> frozenset[SPIFFEID]:
        """The identities that get nothing."""
        return self._revoked

    def revoke(self, spiffe_id: SPIFFEID) -> None:
        """Issues nothing to this identity any more, across restarts.

        SVIDs that it holds end by their own: cutting its sessions is the enforcers' part.
        Raises ``NotWrittenDown`` if a restart could forget it; it is in force all the same.
        """
        self._require_workload(spiffe_id)
        with self._lock:
            try:
                self._lifecycle.revoke(str(spiffe_id))
            finally:
                self._revoked = self._read_revoked()

    def restore(self, spiffe_id: SPIFFEID) -> None:
        """Lets a revoked identity have SVIDs again."""
        with self._lock:
            self._lifecycle.restore(str(spiffe_id))
            self._revoked = self._read_revoked()

    @property
    def is_written_down(self) -> bool:
        """Whether every revocation is; see ``NotWrittenDown``."""
        return self._lifecycle.is_written_down

    def _read_revoked(self) -> frozenset[SPIFFEID]:
        return frozenset(SPIFFEID.parse(uri) for uri in self._lifecycle.state.revoked)

    def _require_workload(self, spiffe_id: SPIFFEID) -> None:
        if spiffe_id.trust_domain != self.trust_domain or spiffe_id.is_trust_domain:
            raise IdentityError(f"{spiffe_id} is no workload of {self.trust_domain}.")

    def status(self) -> AuthorityStatus:
        """For display: every slot with its state and life, and who is revoked."""
        with self._lock:
            state = self._lifecycle.state
            revoked = tuple(sorted(self.revoked))
            return AuthorityStatus(state.trust_domain, state.sequence, state.slots, revoked)


def _check_name(trust_domain: str) -> None:
    check_trust_domain(trust_domain)
    if len(trust_domain) > profiles.MAX_ORGANIZATION_BYTES:
        raise IdentityError(
            f"The trust domain {trust_domain} has more than {profiles.MAX_ORGANIZATION_BYTES} "
            "bytes, which do not fit a certificate's O (RFC 5280 appendix A.1).",
            remedy="Choose a shorter one.",
        )
