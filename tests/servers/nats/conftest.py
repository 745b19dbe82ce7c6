"""The shop's events on both servers: the newest, and one that cannot be held to TLS 1.3."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.rig import Rig, running_server
from tests.servers.nats.shop import OLD_SHOP, SHOP
from watertight.servers.nats.server import NATS


@pytest_asyncio.fixture(
    loop_scope="module", scope="module", params=[SHOP, OLD_SHOP], ids=["new", "old"]
)
async def rig(request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    async with running_server(NATS(), request.param) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def new_rig() -> AsyncIterator[Rig]:
    async with running_server(NATS(), SHOP) as running:
        yield running
