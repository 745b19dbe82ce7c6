"""The keeper renews in time, never gives up a valid SVID, and heals after any jump of the clock."""

import asyncio
import contextlib
import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from tests.identity.world import TRUST_DOMAIN, FakeClock, authority, kek
from watertight.identity.authority import Authority
from watertight.identity.clock import seconds
from watertight.identity.errors import IdentityError, IssuanceRefused, TokenRejected
from watertight.identity.keeper import KeeperSettings, SVIDKeeper, Workload
from watertight.identity.retirement import RetirementEvidence
from watertight.identity.settings import DAY, HOUR, AuthoritySettings
from watertight.identity.source import IdentitySource
from watertight.identity.svid import X509SVID


class World:
    """One authority and one keeper on a clock that is turned by hand; ``jitter`` is settable."""

    def __init__(self, authority: Authority, now: FakeClock) -> None:
        self.authority = authority
        self.now = now
        self.jitter = 0.0
        names = ["orders", "mailer"]
        self.keeper = SVIDKeeper(authority, names, now=now, jitter=lambda: self.jitter)

    def svid(self, name: str = "orders") -> X509SVID:
        """The SVID of a workload that must have one."""
        svid = self.keeper.x509_svid(name)
        assert svid is not None
        return svid


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    now = FakeClock()
    with authority(tmp_path, now) as made:
        yield World(made, now)


def break_disk(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on the authority cannot record anything, as on a full disk."""

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("watertight.identity.audit.os.write", full)


async def test_is_an_identity_source_and_gives_each_workload_its_own_key(world: World) -> None:
    source: IdentitySource = world.keeper
    await world.keeper.refresh()
    orders, mailer = source.x509_svid("orders"), source.x509_svid("mailer")
    assert orders is not None
    assert mailer is not None
    assert orders.spiffe_id == f"spiffe://{TRUST_DOMAIN}/orders"
    assert orders.private_key_der != mailer.private_key_der
    key = serialization.load_der_private_key(orders.private_key_der, None)
    assert key.public_key() == orders.leaf.public_key()
    assert source.x509_svid("stranger") is None


@pytest.mark.parametrize(("jitter", "minutes"), [(0.0, 30), (1.0, 33), (-1.0, 27)])
async def test_renews_at_half_life_give_or_take_a_tenth(
    world: World, jitter: float, minutes: int
) -> None:
    world.jitter = jitter
    await world.keeper.refresh()
    first = world.svid()
    world.now.advance(minutes * 60 - 1)
    await world.keeper.refresh()
    assert world.svid() is first
    world.now.advance(1)
    await world.keeper.refresh()
    assert world.svid().leaf.serial_number != first.leaf.serial_number


async def test_a_valid_svid_stays_when_renewal_fails_and_is_renewed_after_back_off(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.keeper.refresh()
    first = world.svid()
    world.now.advance(HOUR / 2)
    with monkeypatch.context() as broken:
        break_disk(world, broken)
        await world.keeper.refresh()
        assert world.svid() is first
        assert "audit log" in world.keeper.failures()["orders"]
    await world.keeper.refresh()
    assert world.svid() is first, "the back-off has not passed yet"
    world.now.advance(1)
    await world.keeper.refresh()
    assert world.svid() is not first
    assert not world.keeper.failures()


async def test_an_svid_that_has_ended_is_not_handed_out(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.keeper.refresh()
    break_disk(world, monkeypatch)
    world.now.advance(HOUR)
    await world.keeper.refresh()
    assert world.keeper.x509_svid("orders") is None


async def test_waiters_wake_once_a_round(world: World) -> None:
    since = world.keeper.version
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        waiters = [group.create_task(world.keeper.changed(since)) for _ in range(3)]
        await asyncio.sleep(0)
        await world.keeper.refresh()
    assert {w.result() for w in waiters} == {since + 1}


async def test_reissue_gives_new_keys_to_one_or_to_all(world: World) -> None:
    await world.keeper.refresh()
    orders, mailer = world.svid("orders"), world.svid("mailer")
    assert await world.keeper.reissue("orders") == ("orders",)
    assert world.svid("orders").private_key_der != orders.private_key_der
    assert world.svid("mailer") is mailer
    assert await world.keeper.reissue() == ("orders", "mailer")
    assert world.svid("mailer") is not mailer
    with pytest.raises(IdentityError, match="no workload stranger"):
        await world.keeper.reissue("stranger")


async def test_reissue_says_who_kept_the_old_svid(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.keeper.refresh()
    first = world.svid()
    break_disk(world, monkeypatch)
    with pytest.raises(IdentityError, match="orders, mailer kept the old SVID"):
        await world.keeper.reissue()
    assert world.svid() is first


async def test_revoke_withdraws_at_once_and_outlives_a_restart(
    world: World, tmp_path: Path
) -> None:
    await world.keeper.refresh()
    token = world.keeper.jwt_svid("orders", ["mailer"])
    before = world.keeper.version
    world.keeper.revoke("orders")
    assert world.keeper.version > before
    assert world.keeper.x509_svid("orders") is None
    with pytest.raises(IssuanceRefused, match="identity-is-not-revoked"):
        world.keeper.jwt_svid("orders", ["mailer"])
    with pytest.raises(TokenRejected, match="revoked"):
        world.keeper.validate_jwt_svid(token, "mailer")
    await world.keeper.refresh()
    assert world.keeper.x509_svid("orders") is None
    world.authority.close()
    again = Authority.open(tmp_path / "authority", kek=kek(tmp_path), now=world.now)
    with again:
        keeper = SVIDKeeper(again, ["orders", "mailer"], now=world.now)
        await keeper.refresh()
        assert keeper.x509_svid("orders") is None
        assert keeper.x509_svid("mailer") is not None
        keeper.restore("orders")
        await keeper.refresh()
        assert keeper.x509_svid("orders") is not None


async def test_workloads_come_and_go(world: World) -> None:
    await world.keeper.refresh()
    mailer, before = world.svid("mailer"), world.keeper.version
    world.keeper.set_workloads(["mailer", Workload("gateway", ("gateway", "shop.example"))])
    assert world.keeper.x509_svid("orders") is None
    assert world.keeper.version > before
    with pytest.raises(IssuanceRefused, match="workload-is-declared"):
        world.keeper.jwt_svid("orders", ["mailer"])
    await world.keeper.refresh()
    assert world.svid("mailer") is mailer
    assert world.svid("gateway")


async def test_a_workload_that_gets_another_name_is_issued_anew(world: World) -> None:
    await world.keeper.refresh()
    first = world.svid("orders")
    world.keeper.set_workloads([Workload("orders", ("orders", f"orders.{TRUST_DOMAIN}"))])
    assert world.svid("orders") is first
    await world.keeper.refresh()
    assert world.svid("orders") is not first


async def test_tainting_an_issuer_renews_what_it_signed(world: World) -> None:
    await world.keeper.refresh()
    first = world.svid()
    (slot,) = [s for s in world.authority.status().slots if s.kind == "issuer"]
    world.authority.prepare_issuer()
    world.authority.activate_issuer()
    await world.keeper.refresh()
    assert world.svid() is first
    world.authority.taint(slot.id)
    await world.keeper.refresh()
    assert world.svid().chain[1] != first.chain[1]


async def test_root_rotation_is_seen_step_by_step_and_retires_on_evidence(world: World) -> None:
    keeper = world.keeper
    await keeper.refresh()
    (old,) = keeper.bundle().authorities
    old_id = next(s.id for s in world.authority.status().slots if s.kind == "root")
    version = keeper.version
    sequence = keeper.prepare_root()
    assert keeper.version > version
    assert len(keeper.bundle().authorities) == 2
    with pytest.raises(IdentityError, match="Not every subscriber"):
        await keeper.activate_root(sequence - 1)
    await keeper.activate_root(sequence)
    evidence = RetirementEvidence(keeper.live_issuers(), sequence, world.now())
    world.authority.retire_root(old_id, evidence)
    keeper.notify()
    assert old not in keeper.bundle().authorities
    (new,) = keeper.bundle().authorities
    world.svid().chain[1].verify_directly_issued_by(new)


@pytest.mark.parametrize("jump", [2 * HOUR, 8 * DAY, 3 * 365 * DAY, -2 * HOUR, -900 * DAY])
async def test_heals_after_the_clock_jumped_past_every_ttl(world: World, jump: float) -> None:
    await world.keeper.refresh()
    world.now.advance(jump)
    await world.keeper.refresh()
    svid, roots = world.svid(), world.keeper.bundle().authorities
    assert svid.leaf.not_valid_before_utc <= world.now() < svid.expires_at
    live = [r for r in roots if r.not_valid_before_utc <= world.now() < r.not_valid_after_utc]
    issuer = svid.chain[1]
    (root,) = [r for r in live if r.subject == issuer.issuer]
    issuer.verify_directly_issued_by(root)
    claims = world.keeper.validate_jwt_svid(world.keeper.jwt_svid("orders", ["x"]), "x")
    assert claims["sub"] == svid.spiffe_id


async def test_a_retry_does_not_wait_for_a_clock_that_was_turned_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        break_disk(world, broken)
        await world.keeper.refresh()
    world.now.advance(-DAY)
    await world.keeper.refresh()
    assert world.svid()


async def test_three_root_generations_pass_by_the_clock_without_one_bad_moment(
    tmp_path: Path,
) -> None:
    settings = AuthoritySettings(
        root_ttl_seconds=DAY, issuer_ttl_seconds=6 * HOUR, svid_ttl_seconds=HOUR,
        jwt_authority_ttl_seconds=6 * HOUR, bundle_grace_seconds=HOUR,
    )  # fmt: skip
    now = FakeClock()
    with authority(tmp_path, now, settings) as made:
        keeper = SVIDKeeper(made, ["orders"], now=now, jitter=lambda: 1.0)
        roots = set()
        known: tuple[object, ...] = ()
        for _ in range(3 * 24 * 12):
            await keeper.refresh()
            svid, bundle = keeper.x509_svid("orders"), keeper.bundle().authorities
            assert svid is not None
            root = next(r for r in bundle if r.subject == svid.chain[1].issuer)
            assert not known or root in known, "published at least one round before it signs"
            for certificate in (*svid.chain, root):
                assert certificate.not_valid_before_utc <= now() < certificate.not_valid_after_utc
            assert svid.expires_at <= svid.chain[1].not_valid_after_utc
            roots.add(root)
            known = bundle
            now.advance(5 * 60)
    assert len(roots) >= 3
    assert len(known) <= 3, "expired roots leave the bundle"


async def test_the_loop_renews_for_real_with_ttls_of_seconds(tmp_path: Path) -> None:
    settings = AuthoritySettings(
        root_ttl_seconds=40, issuer_ttl_seconds=12, svid_ttl_seconds=2,
        jwt_authority_ttl_seconds=12, backdate_seconds=1, publication_seconds=0,
    )  # fmt: skip
    made = Authority.create(tmp_path / "a", TRUST_DOMAIN, kek=kek(tmp_path), settings=settings)
    with made:
        keeper = SVIDKeeper(made, ["orders"], settings=KeeperSettings(tick_seconds=0.2))
        loop = asyncio.get_running_loop().create_task(keeper.run())
        serials: set[int] = set()
        try:
            async with asyncio.timeout(20):
                version = keeper.version
                while len(serials) < 3:
                    version = await keeper.changed(version)
                    svid = keeper.x509_svid("orders")
                    assert svid is not None
                    assert svid.expires_at > dt.datetime.now(dt.UTC)
                    serials.add(svid.leaf.serial_number)
        finally:
            loop.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await loop


async def test_a_new_workload_wakes_the_loop(world: World) -> None:
    slow = KeeperSettings(tick_seconds=600)
    keeper = SVIDKeeper(world.authority, [], settings=slow, now=world.now)
    async with asyncio.timeout(60):
        loop = asyncio.get_running_loop().create_task(keeper.run())
        try:
            keeper.set_workloads(["orders"])
            await keeper.changed(keeper.version)
            assert keeper.x509_svid("orders")
        finally:
            loop.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await loop


async def test_a_thousand_svids_in_one_round(world: World) -> None:
    world.keeper.set_workloads(f"service-{i}" for i in range(1000))
    await world.keeper.refresh()
    assert all(world.keeper.x509_svid(f"service-{i}") for i in range(1000))
    assert world.now() + seconds(HOUR) == world.svid("service-7").expires_at
