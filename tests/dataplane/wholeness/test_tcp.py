"""Every byte arrives, then the end arrives: bytes that nobody parses."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.dataplane.wholeness.apps import CHUNK, GREETING, HEARD
from tests.dataplane.wholeness.paths import DEADLINE_SECONDS, all_paths, stream
from tests.mesh import Mesh, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

MEGABYTE = 1_000_000
SIZES = [
    MEGABYTE,
    3 * MEGABYTE,
    # Its end is sometimes lost (docs/explanation/data-paths.md); its bytes never.
    pytest.param(50 * MEGABYTE, marks=pytest.mark.slow),
]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def mesh() -> AsyncIterator[Mesh]:
    async with all_paths() as running:
        yield running


@pytest.mark.parametrize("size", SIZES)
async def test_the_server_ends_first(mesh: Mesh, size: int) -> None:
    async with stream(mesh) as one:
        one.writer.write(b"send %d\n" % size)
        async with asyncio.timeout(DEADLINE_SECONDS):
            assert len(await one.reader.readexactly(size)) == size
            if size < 10 * MEGABYTE:
                assert await one.reader.read() == b""


@pytest.mark.parametrize("size", SIZES)
async def test_the_client_ends_its_half_and_is_answered(mesh: Mesh, size: int) -> None:
    async with stream(mesh) as one:
        one.writer.write(b"count %d\n" % size + CHUNK * 20)
        one.writer.write_eof()
        said = str(20 * len(CHUNK)).encode()
        async with asyncio.timeout(DEADLINE_SECONDS):
            assert await one.reader.readexactly(len(said)) == said
            assert len(await one.reader.readexactly(size)) == size


async def test_the_server_ends_its_half_and_hears_the_client_to_its_end(mesh: Mesh) -> None:
    HEARD.clear()
    async with stream(mesh) as one:
        one.writer.write(b"half 1000000\n")
        assert len(await one.rest()) == MEGABYTE
        for _ in range(20):
            one.writer.write(CHUNK)
            await one.writer.drain()
        one.writer.write_eof()
        await until(lambda: [20 * len(CHUNK)] == HEARD)


async def test_a_server_that_speaks_first_is_heard(mesh: Mesh) -> None:
    async with stream(mesh, "mail") as one:
        async with asyncio.timeout(DEADLINE_SECONDS):
            assert await one.reader.readexactly(len(GREETING)) == GREETING
        one.writer.write(b"me\n")
        assert await one.rest() == b"me\n"


async def test_a_slow_reader_loses_nothing(mesh: Mesh) -> None:
    async with stream(mesh, limit=1024) as one:
        one.writer.write(b"send 3000000\n")
        await asyncio.sleep(2.5)  # the reader's own slowness
        assert len(await one.rest()) == 3 * MEGABYTE
