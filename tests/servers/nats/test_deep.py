"""Generated NATS operations: nothing is done that no grant names, and a grant too many is found."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.rig import Rig, not_held, running_server
from tests.servers.nats.sabotages import Weaken, also_publish, also_subscribe
from tests.servers.nats.shop import SHOP
from watertight.attack.probe import Deep, Verdict
from watertight.servers.nats.attacks import deep
from watertight.servers.nats.compile import CONFIGURATION
from watertight.servers.nats.server import NATS

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def server() -> AsyncIterator[Rig]:
    async with running_server(NATS(), SHOP) as running:
        yield running


async def test_nothing_is_done_that_no_grant_names(server: Rig) -> None:
    searches = list(deep.probes(server.system, Deep(1, 60, cases=500)))
    assert len(searches) == 4
    results = await server.run(searches)
    assert not_held(results) == {}
    assert all(" done that may be" in result.observed for result in results)


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_nothing_is_done_that_no_grant_names_in_a_long_search(server: Rig) -> None:
    for seed in range(2, 5):
        results = await server.run(list(deep.probes(server.system, Deep(seed, 60, 3_000))))
        assert not_held(results) == {}


@pytest.mark.parametrize(
    ("weaken", "says"),
    [
        (also_publish("price.changed"), "publication permitted without a grant: printf"),
        (also_subscribe("mail.>"), "subscribed without a grant: printf"),
    ],
)
async def test_a_grant_too_many_is_found(server: Rig, weaken: Weaken, says: str) -> None:
    await server.restart_with({CONFIGURATION: weaken(server.plan.files[CONFIGURATION])})
    try:
        searches = deep.probes(server.system, Deep(3, 60, cases=3_000))
        (found,) = await server.run([p for p in searches if p.channel == "orders -> events"])
    finally:
        await server.enforcer.apply(server.plan, server.host)
    assert found.verdict is Verdict.BROKEN
    assert says in found.observed
    assert "of seed 3)" in found.observed
