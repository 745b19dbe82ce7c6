"""Every probe bites: each weakening of the running server turns exactly the right ones red."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.rig import Rig, not_held, running_server
from tests.servers.mongodb.shop import SHOP
from watertight.servers.mongodb.server import MongoDB

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def rig() -> AsyncIterator[Rig]:
    async with running_server(MongoDB(), SHOP) as running:
        yield running


async def test_every_probe_holds_on_the_server_as_it_is_applied(rig: Rig) -> None:
    results = await rig.run(rig.probes)
    assert not_held(results) == {}
    assert len(results) >= 100
