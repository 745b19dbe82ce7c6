"""Keeps one fresh SVID for each workload, and tells everybody who waits when something changed.

The keeper makes the key pairs, asks the authority with CSRs and renews at half-life, give or take
a tenth, so that a fleet does not renew at once. A valid SVID is never discarded because its
renewal failed; after a sleep past every TTL, or a clock that jumped, the next round heals.
"""

import asyncio
import datetime as dt
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from secrets import SystemRandom
from typing import Any

import structlog
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from watertight.identity import jwt_svid
from watertight.identity.authority import Authority
from watertight.identity.clock import Clock, seconds, system_clock
from watertight.identity.errors import IdentityError, IssuanceRefused, TokenRejected
from watertight.identity.keys import KeyType, generate, signing_hash, to_pkcs8
from watertight.identity.profiles import Role
from watertight.identity.requests import SVIDRequest
from watertight.identity.retirement import issuer_fingerprint
from watertight.identity.spiffe import SPIFFEID
from watertight.identity.svid import X509SVID, TrustBundle

log = structlog.get_logger(__name__)

MIN_WAIT_SECONDS = 0.02
"""Between two rounds, so that a failing disk cannot make the loop spin."""


@dataclass(frozen=True, slots=True)
class KeeperSettings:
    """When and how the keeper renews."""

    key_type: KeyType = KeyType.ECDSA_P256
    renew_after: float = 0.5
    """Fraction of an SVID's life."""
    jitter: float = 0.1
    """Largest deviation from that moment, as a fraction of it."""
    first_retry_seconds: float = 1.0
    max_retry_seconds: float = 60.0
    """Retries double from the first to this."""
    tick_seconds: float = 5.0
    """Longest wait between two looks at the wall clock: a monotonic timer sleeps while the machine
    does, so it alone would find out too late."""


@dataclass(frozen=True, slots=True)
class Workload:
    """Who is kept an SVID for. ``dns_names`` None: the name itself."""

    name: str
    dns_names: tuple[str, ...] | None = None
    role: Role = Role.SERVICES


@dataclass(slots=True)
class _Kept:
    """What the keeper knows of one workload."""

    workload: Workload
    svid: X509SVID | None = None
    renew_at: dt.datetime | None = None
    """None: now."""
    retry_at: dt.datetime | None = None
    failures: int = 0
    failure: str = ""


def _default_jitter() -> float:
    return SystemRandom().uniform(-1, 1)


DEFAULT_SETTINGS = KeeperSettings()


class SVIDKeeper:
    """The :class:`~watertight.identity.source.IdentitySource` of everything that runs here.

    Lives in one event loop: call it from there only. ``jitter`` returns a number from -1 to 1.
    """

    def __init__(
        self,
        authority: Authority,
        workloads: Iterable[Workload | str] = (),
        *,
        settings: KeeperSettings = DEFAULT_SETTINGS,
        now: Clock = system_clock,
        jitter: Callable[[], float] = _default_jitter,
    ) -> None:
        self.authority = authority
        self.trust_domain = authority.trust_domain
        self._settings = settings
        self._now = now
        self._jitter = jitter
        self._kept: dict[str, _Kept] = {}
        self._version = 0
        self._change = asyncio.Event()
        self._wake = asyncio.Event()
        self._round = asyncio.Lock()
        self._sequence = authority.bundle().sequence
        self.set_workloads(workloads)

    # --- what everybody asks (IdentitySource) -----------------------------------------------

    @property
    def version(self) -> int:
        """Grows by at least one with each change of any SVID or of the bundle."""
        return self._version

    async def changed(self, since: int) -> int:
        """Waits until ``version`` is greater than ``since`` and returns it."""
        while self._version <= since:
            await self._change.wait()
        return self._version

    def x509_svid(self, workload: str) -> X509SVID | None:
        """The current SVID of a workload; None if it has none that is valid (or is revoked)."""
        kept = self._kept.get(workload)
        if kept is None or kept.svid is None or self.is_revoked(workload):
            return None
        return kept.svid if kept.svid.is_valid_at(self._now()) else None

    def bundle(self) -> TrustBundle:
        """The roots that are trusted now."""
        return self.authority.bundle()

    def jwt_svid(self, workload: str, audiences: Sequence[str]) -> str:
        """A fresh JWT-SVID. Raises ``IssuanceRefused`` or ``TokenRejected``."""
        if workload not in self._kept:
            raise IssuanceRefused("workload-is-declared", f"there is no workload {workload}.")
        return self.authority.issue_jwt_svid(self._id(workload), audiences)

    def jwt_bundle(self) -> dict[str, Any]:
        """The JWK Set of the JWT authorities."""
        return self.authority.jwt_bundle()

    def validate_jwt_svid(self, token: str, audience: str) -> dict[str, Any]:
        """The claims of a valid JWT-SVID. Raises ``TokenRejected``, also for revoked subjects."""
        bundles = {self.trust_domain: self.authority.jwt_bundle()}
        claims = jwt_svid.validate(token, audience, bundles, self._now())
        if SPIFFEID.parse(claims["sub"]) in self.authority.revoked:
            raise TokenRejected("J4", "its subject is revoked.")
        return claims

    # --- what changes it --------------------------------------------------------------------

    def set_workloads(self, workloads: Iterable[Workload | str]) -> None:
        """Declares who gets SVIDs. New ones get theirs in the next round (:meth:`refresh`)."""
        declared = [Workload(w) if isinstance(w, str) else w for w in workloads]
        before, self._kept = self._kept, {}
        for workload in declared:
            kept = before.get(workload.name)
            if kept is None or kept.workload != workload:
                # A changed one keeps its SVID until it has the next.
                kept = _Kept(workload, kept.svid if kept else None)
            self._kept[workload.name] = kept
        if before.keys() - self._kept.keys():
            self._announce()
        self._wake.set()

    async def reissue(self, workload: str | None = None) -> tuple[str, ...]:
        """New keys and SVIDs for one workload, or for all; returns who has new ones.

        Raises ``IdentityError`` if one could not be had; the old one then stays in use.
        """
        if workload is not None and workload not in self._kept:
            raise IdentityError(
                f"There is no workload {workload}.", remedy=f"Known: {', '.join(self._kept)}."
            )
        wanted = [n for n in self._kept if workload in {None, n} and not self.is_revoked(n)]
        for name in wanted:
            self._kept[name].renew_at = self._kept[name].retry_at = None
        await self.refresh()
        if failed := [n for n in wanted if n in self._kept and self._kept[n].failure]:
            raise IdentityError(
                f"{', '.join(failed)} kept the old SVID: {self._kept[failed[0]].failure}"
            )
        return tuple(wanted)

    def revoke(self, workload: str) -> None:
        """Distrusts a workload: its SVID is withdrawn at once and no other is issued.

        Raises ``NotWrittenDown``; all that is done then, too.
        """
        try:
            self.authority.revoke(self._id(workload))
        finally:
            if (kept := self._kept.get(workload)) is not None and self.is_revoked(workload):
                kept.svid = kept.renew_at = kept.retry_at = None
            self._announce()

    def restore(self, workload: str) -> None:
        """Trusts a workload again; it gets an SVID in the next round."""
        self.authority.restore(self._id(workload))
        self._wake.set()

    async def rotate_issuer(self) -> None:
        """A new issuing intermediate, and new SVIDs below it for everybody."""
        self.authority.prepare_issuer()
        self.authority.activate_issuer()
        await self.reissue()

    def prepare_root(self) -> int:
        """Publishes the next root; returns the sequence of the bundle that must be acknowledged."""
        self.authority.prepare_root()
        self.notify()
        return self.bundle().sequence

    async def activate_root(self, acknowledged_sequence: int) -> None:
        """The prepared root signs (see :meth:`Authority.activate_root`); then all get new SVIDs."""
        self.authority.activate_root(acknowledged_sequence)
        await self.reissue()

    def live_issuers(self) -> frozenset[str]:
        """The intermediates of all current SVIDs, for :class:`RetirementEvidence`."""
        svids = (self.x509_svid(name) for name in self._kept)
        return frozenset(issuer_fingerprint(s.chain) for s in svids if s is not None)

    def notify(self) -> None:
        """Call this after changing the authority behind the keeper's back: waiters look again."""
        self._announce()
        self._wake.set()

    def failures(self) -> dict[str, str]:
        """Whose last renewal failed, and why. Their old SVIDs stay in use while they are valid."""
        return {name: kept.failure for name, kept in self._kept.items() if kept.failure}

    # --- the loop ---------------------------------------------------------------------------

    async def run(self) -> None:
        """Renews for as long as it is awaited. Failures are logged and tried again, not raised."""
        while True:
            self._wake.clear()
            await self.refresh()
            try:
                async with asyncio.timeout(self._wait_seconds()):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def refresh(self) -> None:
        """One round: the authority's schedule, then every SVID that is due. Yields in between."""
        async with self._round:
            self._tick()
            distrusted = self._distrusted_issuers()
            renewed = 0
            for name in list(self._kept):
                if self._is_due(name, distrusted):
                    renewed += self._renew(name)
                    await asyncio.sleep(0)
            if renewed:
                self._announce()

    def _tick(self) -> None:
        try:
            self.authority.tick()
        except (IdentityError, OSError) as error:
            log.warning("authority_tick_failed", reason=str(error))
        sequence = self.authority.bundle().sequence
        if sequence != self._sequence:
            self._sequence = sequence
            self._announce()

    def _distrusted_issuers(self) -> frozenset[x509.Certificate]:
        issuers = {k.svid.chain[1] for k in self._kept.values() if k.svid is not None}
        return frozenset(i for i in issuers if self.authority.is_tainted(i))

    def _is_due(self, name: str, distrusted: frozenset[x509.Certificate]) -> bool:
        kept = self._kept.get(name)
        if kept is None or self.is_revoked(name):
            return False
        now = self._now()
        if kept.retry_at is not None and now < kept.retry_at:
            # A retry that lies further off than any back-off: the clock was turned back.
            return kept.retry_at - now > seconds(2 * self._settings.max_retry_seconds)
        if kept.svid is None or kept.renew_at is None:
            return True
        stale = now >= kept.renew_at or not kept.svid.is_valid_at(now)
        return stale or kept.svid.chain[1] in distrusted

    def _renew(self, name: str) -> bool:
        kept = self._kept[name]
        try:
            kept.svid = self._issue(kept.workload)
        except (IdentityError, OSError) as error:
            delay = self._settings.first_retry_seconds * 2.0 ** min(kept.failures, 30)
            delay = min(delay, self._settings.max_retry_seconds) * (1 + 0.1 * self._jitter())
            kept.retry_at, kept.failure = self._now() + seconds(delay), str(error)
            kept.failures += 1
            log.warning(
                "svid_renewal_failed", workload=name, reason=str(error), retry_seconds=delay
            )
            return False
        life = kept.svid.expires_at - self._now()
        deviation = 1 + self._settings.jitter * self._jitter()
        kept.renew_at = self._now() + life * self._settings.renew_after * deviation
        kept.retry_at, kept.failures, kept.failure = None, 0, ""
        return True

    def _issue(self, workload: Workload) -> X509SVID:
        key = generate(self._settings.key_type)
        csr = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
        der = csr.sign(key, signing_hash(key)).public_bytes(serialization.Encoding.DER)
        names = (workload.name,) if workload.dns_names is None else workload.dns_names
        identity = self._id(workload.name)
        chain = self.authority.issue(SVIDRequest(der, identity, names, workload.role))
        return X509SVID(str(identity), chain, to_pkcs8(key))

    def _wait_seconds(self) -> float:
        now = self._now()
        moments = [
            moment for name, kept in self._kept.items()
            if not self.is_revoked(name) and (moment := kept.retry_at or kept.renew_at)
        ]  # fmt: skip
        due = min(((m - now).total_seconds() for m in moments), default=self._settings.tick_seconds)
        return min(max(due, MIN_WAIT_SECONDS), self._settings.tick_seconds)

    def _announce(self) -> None:
        self._version += 1
        change, self._change = self._change, asyncio.Event()
        change.set()

    def _id(self, workload: str) -> SPIFFEID:
        return SPIFFEID.workload(self.trust_domain, workload)

    def is_revoked(self, workload: str) -> bool:
        """Whether its identity is distrusted."""
        return self._id(workload) in self.authority.revoked
