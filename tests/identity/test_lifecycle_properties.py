"""Whatever is done in whatever order, and however the clock jumps, the promises hold."""

import tempfile
from pathlib import Path

from cryptography import x509
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.identity.world import ORDERS, TRUST_DOMAIN, FakeClock, kek, request
from watertight.identity.authority import Authority
from watertight.identity.chain import verify_svid
from watertight.identity.errors import RotationRefused
from watertight.identity.retirement import RetirementEvidence, issuer_fingerprint
from watertight.identity.settings import DAY
from watertight.identity.slots import Kind, Status


class Life(RuleBasedStateMachine):
    """One authority and one subscriber, who holds the latest bundle that it has acknowledged."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.now = FakeClock()
        self.authority = self._open()
        self.acknowledged = self.authority.bundle()
        self.svid = self.authority.issue(request())

    def _open(self) -> Authority:
        path = Path(self.directory.name)
        return Authority.open_or_create(
            path / "authority", TRUST_DOMAIN, kek=kek(path), now=self.now
        )

    def teardown(self) -> None:
        self.authority.close()
        self.directory.cleanup()

    @rule()
    def acknowledge(self) -> None:
        self.acknowledged = self.authority.bundle()

    @rule()
    def renew(self) -> None:
        self.svid = self.authority.issue(request())

    @rule()
    def prepare_root(self) -> None:
        self.authority.prepare_root()

    @rule()
    def activate_root(self) -> None:
        before = self.authority.bundle()
        try:
            self.authority.activate_root(self.acknowledged.sequence)
        except RotationRefused:
            assert self.authority.bundle() == before
            return
        fresh = self.authority.issue(request())
        # Publish before use: the subscriber can already verify what the new root signs.
        verify_svid(fresh, {TRUST_DOMAIN: self.acknowledged}, self.now(), expected=ORDERS)

    @rule()
    def rotate_issuer(self) -> None:
        self.authority.prepare_issuer()
        self.authority.activate_issuer()

    @rule()
    def retire(self) -> None:
        in_use = frozenset({issuer_fingerprint(self.svid)})
        evidence = RetirementEvidence(in_use, self.acknowledged.sequence, self.now())
        for slot in self.authority.status().slots:
            try:
                self.authority.retire_root(slot.id, evidence)
            except RotationRefused:
                continue
            self.still_verifies()

    @rule(days=st.sampled_from([0.02, 1.0, 6.0, 200.0, 360.0, 4000.0, -1.0, -500.0]))
    def jump(self, days: float) -> None:
        self.now.advance(days * DAY)
        self.authority.tick()
        self.svid = self.authority.issue(request())

    @rule()
    def restart(self) -> None:
        before = self.authority.status()
        self.authority.close()
        self.authority = self._open()
        assert self.authority.status() == before

    @precondition(lambda self: self.svid is not None)
    @invariant()
    def still_verifies(self) -> None:
        trusted = {TRUST_DOMAIN: self.authority.bundle()}
        assert verify_svid(self.svid, trusted, self.now(), expected=ORDERS) == ORDERS

    @invariant()
    def slots_are_in_order(self) -> None:
        status = self.authority.status()
        for kind in Kind:
            active = [s for s in status.slots if (s.kind, s.status) == (kind, Status.ACTIVE)]
            assert len(active) == 1
            assert active[0].is_valid(self.now())
        roots = [s.x509 for s in status.slots if s.kind is Kind.ROOT]
        assert set(self.authority.bundle().authorities) == set(roots)
        assert status.sequence >= self.acknowledged.sequence
        keys = Path(self.directory.name) / "authority" / "keys"
        wanted = {f"{s.id}.key" for s in status.slots if s.status is not Status.OLD}
        assert {f.name for f in keys.iterdir()} == wanted
        assert all(isinstance(r, x509.Certificate) for r in roots)


TestLife = Life.TestCase
TestLife.settings = settings(
    max_examples=15, stateful_step_count=20, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)  # fmt: skip
