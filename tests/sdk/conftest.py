"""What the SDK's tests share."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.sdk.world import World, living_world


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """A service's sandbox of its own for each test."""
    async with living_world() as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lasting_world() -> AsyncIterator[World]:
    """One sandbox for all tests of a module."""
    async with living_world() as made:
        yield made
