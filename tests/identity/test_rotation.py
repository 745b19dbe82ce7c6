"""Prepared, active, old: order is kept, publication precedes use, roots retire only on evidence."""

from pathlib import Path

import pytest

from tests.identity.world import TRUST_DOMAIN, FakeClock, authority, request
from watertight.identity import jwt_svid
from watertight.identity.authority import Authority
from watertight.identity.clock import seconds
from watertight.identity.errors import RotationRefused
from watertight.identity.retirement import RetirementEvidence, issuer_fingerprint
from watertight.identity.settings import DAY, HOUR, AuthoritySettings
from watertight.identity.slots import AuthorityState, Kind, Slot, Status
from watertight.identity.spiffe import SPIFFEID


def of(made: Authority, kind: Kind, status: Status) -> list[Slot]:
    """The slots of a kind in a state."""
    return [s for s in made.status().slots if (s.kind, s.status) == (kind, status)]


def rotated_root(made: Authority) -> Slot:
    """Replaces the root, everybody having acknowledged it; returns the old one."""
    made.prepare_root()
    made.activate_root(made.bundle().sequence)
    return of(made, Kind.ROOT, Status.OLD)[-1]


def test_a_prepared_issuer_signs_nothing_yet(tmp_path: Path) -> None:
    with authority(tmp_path, FakeClock()) as made:
        first = made.issue(request())[1]
        prepared = made.prepare_issuer()
        assert made.issue(request())[1] == first
        assert made.activate_issuer().id == prepared.id
        second = made.issue(request())[1]
        assert second == prepared.x509
        assert second != first


def test_a_prepared_root_is_published_before_it_signs(tmp_path: Path) -> None:
    with authority(tmp_path, FakeClock()) as made:
        old = made.bundle()
        prepared = made.prepare_root()
        new = made.bundle()
        assert new.sequence > old.sequence
        assert set(new.authorities) == {*old.authorities, prepared.x509}
        made.issue(request())[1].verify_directly_issued_by(old.authorities[0])
        with pytest.raises(RotationRefused, match="Not every subscriber"):
            made.activate_root(old.sequence)
        made.activate_root(new.sequence)
        made.issue(request())[1].verify_directly_issued_by(prepared.x509)
        assert set(made.bundle().authorities) == {*old.authorities, prepared.x509}


def test_nothing_is_activated_that_was_not_prepared(tmp_path: Path) -> None:
    with authority(tmp_path, FakeClock()) as made:
        for activate in (
            made.activate_issuer, made.activate_jwt, lambda: made.activate_root(99)
        ):  # fmt: skip
            with pytest.raises(RotationRefused, match="is prepared"):
                activate()


def test_preparing_again_replaces_what_was_prepared(tmp_path: Path) -> None:
    with authority(tmp_path, FakeClock()) as made:
        first, second = made.prepare_root(), made.prepare_root()
        assert [s.id for s in of(made, Kind.ROOT, Status.PREPARED)] == [second.id]
        assert first.x509 not in made.bundle().authorities


def test_jwt_authorities_rotate_and_old_tokens_stay_valid(tmp_path: Path) -> None:
    now = FakeClock()
    orders = SPIFFEID.workload(TRUST_DOMAIN, "orders")
    with authority(tmp_path, now) as made:
        before = made.issue_jwt_svid(orders, ["mailer"])
        prepared = made.prepare_jwt()
        made.activate_jwt()
        after = made.issue_jwt_svid(orders, ["mailer"])
        bundles = {TRUST_DOMAIN: made.jwt_bundle()}
        for token in (before, after):
            assert jwt_svid.validate(token, "mailer", bundles, now())["sub"] == str(orders)
        assert [k["kid"] for k in made.jwt_bundle()["keys"]][-1] == prepared.id


def test_a_root_retires_on_evidence(tmp_path: Path) -> None:
    now = FakeClock()
    with authority(tmp_path, now) as made:
        before = made.issue(request())
        old = rotated_root(made)
        after = made.issue(request())
        sequence = made.bundle().sequence
        live, moved = issuer_fingerprint(before), issuer_fingerprint(after)
        stranger = "00" * 32
        for wrong, why in [
            (RetirementEvidence(frozenset({live, moved}), sequence, now()), "still in use"),
            (RetirementEvidence(frozenset({moved, stranger}), sequence, now()), "does not know"),
            (RetirementEvidence(frozenset({moved}), 1, now()), "acknowledged"),
            (
                RetirementEvidence(frozenset({moved}), sequence, now() - seconds(61)),
                "from the last",
            ),
            (RetirementEvidence(frozenset({moved}), sequence, now() + seconds(1)), "from the last"),
        ]:
            with pytest.raises(RotationRefused, match=why):
                made.retire_root(old.id, wrong)
            assert old.x509 in made.bundle().authorities
        made.retire_root(old.id, RetirementEvidence(frozenset({moved}), sequence, now()))
        assert made.bundle().authorities == (of(made, Kind.ROOT, Status.ACTIVE)[0].x509,)
        assert made.bundle().sequence > sequence
        assert len(of(made, Kind.ISSUER, Status.OLD)) == 0


def test_only_an_old_root_can_retire(tmp_path: Path) -> None:
    now = FakeClock()
    with authority(tmp_path, now) as made:
        made.prepare_root()
        evidence = RetirementEvidence(frozenset(), 99, now())
        for slot in made.status().slots:
            with pytest.raises(RotationRefused, match="only an old root"):
                made.retire_root(slot.id, evidence)
        with pytest.raises(RotationRefused, match="no authority"):
            made.retire_root("0000", evidence)


def test_taint_is_for_old_slots_and_reaches_the_issuers_below(tmp_path: Path) -> None:
    with authority(tmp_path, FakeClock()) as made:
        issuer = made.issue(request())[1]
        (active,) = of(made, Kind.ROOT, Status.ACTIVE)
        with pytest.raises(RotationRefused, match="is active"):
            made.taint(active.id)
        old = rotated_root(made)
        assert not made.is_tainted(issuer)
        made.taint(old.id)
        assert made.is_tainted(issuer)
        assert not made.is_tainted(made.issue(request())[1])
        assert old.x509 in made.bundle().authorities, "tainted is not distrusted"


def test_an_unknown_issuer_counts_as_tainted(tmp_path: Path) -> None:
    with (
        authority(tmp_path / "a", FakeClock()) as one,
        authority(tmp_path / "b", FakeClock()) as two,
    ):
        assert one.is_tainted(two.issue(request())[1])


@pytest.mark.parametrize(
    ("kind", "life", "prepare", "activate"),
    [
        # SPIRE's thresholds: min(life / 2, 30 d) and min(life / 6, 7 d) before the end.
        (Kind.ROOT, 365 * DAY, 335 * DAY, 358 * DAY),
        (Kind.ISSUER, 7 * DAY, 3.5 * DAY, 7 * DAY * 5 / 6),
        (Kind.JWT, 7 * DAY, 3.5 * DAY, 7 * DAY * 5 / 6),
    ],
)
def test_the_schedule_is_spires(
    tmp_path: Path, kind: Kind, life: float, prepare: float, activate: float
) -> None:
    now = FakeClock()
    long = AuthoritySettings(
        root_ttl_seconds=365 * DAY,
        issuer_ttl_seconds=7 * DAY if kind is Kind.ISSUER else 365 * DAY,
        jwt_authority_ttl_seconds=7 * DAY if kind is Kind.JWT else 400 * DAY,
    )
    with authority(tmp_path, now, long) as made:
        start = now()
        (first,) = of(made, kind, Status.ACTIVE)
        assert first.not_after == start + seconds(life)
        now.time = start + seconds(prepare - 1)
        made.tick()
        assert not of(made, kind, Status.PREPARED)
        now.advance(2)
        assert made.tick()
        (prepared,) = of(made, kind, Status.PREPARED)
        now.time = start + seconds(activate - 1)
        made.tick()
        assert of(made, kind, Status.ACTIVE) == [first]
        now.advance(2)
        made.tick()
        assert [s.id for s in of(made, kind, Status.ACTIVE)] == [prepared.id]


def test_a_root_prepared_late_is_still_published_before_it_signs(tmp_path: Path) -> None:
    now = FakeClock()
    with authority(tmp_path, now) as made:
        (first,) = of(made, Kind.ROOT, Status.ACTIVE)
        now.time = first.not_after - seconds(HOUR)  # asleep past both thresholds
        made.tick()
        assert of(made, Kind.ROOT, Status.ACTIVE)[0].id == first.id
        now.advance(301)
        made.tick()
        assert of(made, Kind.ROOT, Status.ACTIVE)[0].id != first.id


def test_a_tick_with_nothing_to_do_changes_nothing(tmp_path: Path) -> None:
    with authority(tmp_path, FakeClock()) as made:
        before = (tmp_path / "authority" / "state.json").stat().st_mtime_ns
        assert not made.tick()
        assert (tmp_path / "authority" / "state.json").stat().st_mtime_ns == before


def test_healing_prefers_a_prepared_root_that_everybody_knows(tmp_path: Path) -> None:
    now = FakeClock()
    with authority(tmp_path, now) as made:
        (first,) = of(made, Kind.ROOT, Status.ACTIVE)
        now.time = first.not_after - seconds(20 * DAY)
        prepared = made.prepare_root()
        now.time = first.not_after + seconds(1)
        made.tick()
        assert of(made, Kind.ROOT, Status.ACTIVE)[0].id == prepared.id


def test_opening_after_a_long_sleep_heals_without_a_person(tmp_path: Path) -> None:
    now = FakeClock()
    with authority(tmp_path, now):
        pass
    now.advance(5 * 365 * DAY)
    with authority(tmp_path, now) as made:
        leaf, issuer = made.issue(request())
        root = next(r for r in made.bundle().authorities if r.subject == issuer.issuer)
        for certificate in (leaf, issuer, root):
            assert certificate.not_valid_before_utc <= now() < certificate.not_valid_after_utc
        made.tick()
        assert len(made.bundle().authorities) == 1, "long expired roots leave the bundle"


def test_a_state_with_two_active_slots_does_not_exist(tmp_path: Path) -> None:
    with authority(tmp_path, FakeClock()) as made:
        (root,) = of(made, Kind.ROOT, Status.ACTIVE)
    with pytest.raises(ValueError, match="more than one active root"):
        AuthorityState(trust_domain=TRUST_DOMAIN, slots=(root, root))
