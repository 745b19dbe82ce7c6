"""An answer that breaks off is told by its end: nobody waits for the rest of it for ever."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.dataplane.wholeness.paths import HTTP_PATHS, all_paths, client
from tests.mesh import Mesh
from watertight.dataplane.compile import inbound

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.parametrize("path", HTTP_PATHS),
]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def mesh() -> AsyncIterator[Mesh]:
    """With less patience than usual, which is all that the end is late by."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inbound, "STALLED_SECONDS", 1.0)
        async with all_paths() as running:
            yield running


@pytest.mark.parametrize("kind", ["sized", "chunked"])
async def test_an_answer_that_breaks_off_ends(mesh: Mesh, path: str, kind: str) -> None:
    async with client(mesh, path) as one:
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError, ValueError)):
            await one.ask("GET", f"/broken-{kind}/1000")
