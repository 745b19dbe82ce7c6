"""The doors before the real keeper and authority: foreign software follows every rotation."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.identity.serving import envoy
from tests.identity.serving.authority import TRUST_DOMAIN
from tests.identity.serving.polling import eventually_async
from tests.identity.serving.test_foreign_client import ORDERS, foreign
from watertight.identity.attestation import ProcessTreeAttestor
from watertight.identity.authority import Authority
from watertight.identity.keeper import SVIDKeeper
from watertight.identity.kek import FileKEK
from watertight.identity.svid import X509SVID
from watertight.identity.workload_api.endpoint import IdentityEndpoint


@pytest.fixture
async def keeper(tmp_path: Path) -> AsyncIterator[SVIDKeeper]:
    """Has an SVID for each of two workloads."""
    kek = FileKEK(tmp_path / "kek")
    with Authority.create(tmp_path / "authority", TRUST_DOMAIN, kek=kek) as authority:
        keeper = SVIDKeeper(authority, ["orders", "payments"])
        await keeper.refresh()
        yield keeper


@pytest.fixture
async def door(
    keeper: SVIDKeeper, attestor: ProcessTreeAttestor, short: Path
) -> AsyncIterator[Path]:
    """A door at which this process is ``orders``."""
    async with IdentityEndpoint(keeper, attestor, short / "private") as endpoint:
        await endpoint.open(short / "api.sock")
        yield short / "api.sock"


def svid_of(keeper: SVIDKeeper, workload: str) -> X509SVID:
    svid = keeper.x509_svid(workload)
    assert svid is not None
    return svid


async def rotate_root(keeper: SVIDKeeper) -> None:
    await keeper.activate_root(keeper.prepare_root())


async def test_py_spiffe_takes_what_the_authority_issues(keeper: SVIDKeeper, door: Path) -> None:
    first = svid_of(keeper, "orders")
    async with foreign(door) as workload:
        said = [await workload.says() for _ in range(6)]
        assert said[0] == {
            "did": "x509",
            "id": ORDERS,
            "serial": first.leaf.serial_number,
            "chain": len(first.chain),
        }
        assert [line["did"] for line in said[1:]] == [
            "x509-bundles",
            "jwt",
            "validate",
            "jwt-bundles",
            "watch",
        ]
        await keeper.reissue("orders")
        second = svid_of(keeper, "orders").leaf.serial_number
        assert await workload.says() == {"did": "update", "serial": second, "roots": 1}
        assert await workload.exit_status() == 0


async def test_envoy_follows_leaf_and_root(keeper: SVIDKeeper, door: Path, short: Path) -> None:
    caller = f"spiffe://{TRUST_DOMAIN}/payments"
    secrets = (envoy.from_door("default"), envoy.from_door("ROOTCA"))
    configuration = envoy.bootstrap(short, door, *secrets, caller)
    async with envoy.running(short, configuration) as proxy:

        async def serves_with_the_newest() -> bool:
            try:
                said, presented = await proxy.greets(
                    svid_of(keeper, "payments"), keeper.bundle().pem()
                )
            except OSError:
                return False
            return (said, presented) == (envoy.GREETING, svid_of(keeper, "orders").leaf)

        await eventually_async(serves_with_the_newest)
        await keeper.reissue("orders")
        await eventually_async(serves_with_the_newest)
        await rotate_root(keeper)
        await eventually_async(serves_with_the_newest)
        rejected = await proxy.statistics("sds.*update_rejected")
        assert rejected
        assert not any(rejected.values())
