"""Past every TTL in real time: the machine sleeps, wakes, and everything is good again."""

import asyncio
import contextlib
import datetime as dt
from pathlib import Path

import pytest

from tests.identity.world import ORDERS, TRUST_DOMAIN, kek
from watertight.identity.authority import Authority
from watertight.identity.chain import verify_svid
from watertight.identity.keeper import KeeperSettings, SVIDKeeper
from watertight.identity.settings import AuthoritySettings

DEADLINE_SECONDS = 30.0
SHORT_LIVES = AuthoritySettings(
    root_ttl_seconds=6, issuer_ttl_seconds=6, svid_ttl_seconds=1, jwt_authority_ttl_seconds=6,
    backdate_seconds=1, publication_seconds=0, bundle_grace_seconds=0,
)  # fmt: skip


def real_now() -> dt.datetime:
    """The machine's clock."""
    return dt.datetime.now(dt.UTC)


@pytest.mark.slow
async def test_a_sleep_past_every_ttl_heals_in_one_round(tmp_path: Path) -> None:
    directory = tmp_path / "authority"
    with Authority.create(
        directory, TRUST_DOMAIN, kek=kek(tmp_path), settings=SHORT_LIVES
    ) as authority:
        keeper = SVIDKeeper(authority, ["orders"], settings=KeeperSettings(tick_seconds=0.1))
        await keeper.refresh()
        (first,) = keeper.bundle().authorities
        # The sleep is what is tested: nobody runs the keeper until even the root has ended.
        left = first.not_valid_after_utc - real_now()
        await asyncio.sleep(left.total_seconds() + 0.1)
        assert keeper.x509_svid("orders") is None
        version = keeper.version
        loop = asyncio.get_running_loop().create_task(keeper.run())
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                while (svid := keeper.x509_svid("orders")) is None:
                    version = await keeper.changed(version)
            trusted = {TRUST_DOMAIN: keeper.bundle()}
            assert verify_svid(svid.chain, trusted, real_now(), expected=ORDERS) == ORDERS
            assert first not in keeper.bundle().authorities
        finally:
            loop.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await loop
