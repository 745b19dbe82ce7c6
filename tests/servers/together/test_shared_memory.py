"""Who fills what a database's sessions share loses his own; another one's parallel query works."""

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.folders import public_folder
from tests.planes import said_inside, sealed

DECLARATION = """
trust_domain: shared.internal
services:
  greedy: {run: [sleep, "3600"]}
  other: {run: [sleep, "3600"]}
resources:
  db: {kind: postgresql, database: shared, schema: schema.sql, limits: {temp: 128MiB}}
channels:
  - {from: greedy, to: db, tables: {many: [select]}}
  - {from: other, to: db, tables: {many: [select]}}
"""
SCHEMA = """
CREATE TABLE many AS SELECT g AS id, repeat(md5(g::text), 12) AS val
FROM generate_series(1, 50000) g;
"""
"""Long values: what is shared is as large as with many rows, and sooner there."""
SESSION = """
import psycopg, sys, threading, time
def session(memory):
    one = psycopg.connect(autocommit=True)
    for setting in (
        "parallel_setup_cost = 0", "parallel_tuple_cost = 0", "min_parallel_table_scan_size = 0",
        "enable_mergejoin = off", "enable_nestloop = off", "max_parallel_workers_per_gather = 2",
    ):
        one.execute("SET " + setting)
    one.execute(f"SET work_mem = '{memory}'")
    return one
JOIN = "FROM many a JOIN many b USING (val)"
"""
FILLS = """
held = []
asked = threading.Thread(target=sys.stdin.read, daemon=True)
asked.start()
while asked.is_alive():
    try:
        one = session("30MB")
        one.pgconn.send_query(f"SELECT a.val, b.val, repeat('x', 2000) {JOIN}".encode())
        held.append(one)
    except psycopg.OperationalError:
        held.clear()
    time.sleep(0.1)
"""
ASKS = """
for _ in range(8):
    try:
        print(session("4MB").execute(f"SELECT count(*) {JOIN}").fetchone()[0], flush=True)
    except psycopg.Error as error:
        print(f"{type(error).__name__}:{error}".replace(" ", "_"), flush=True)
    time.sleep(0.7)
"""


@pytest.fixture
def project() -> Iterator[Path]:
    with public_folder() as directory:
        (directory / "watertight.yaml").write_text(DECLARATION)
        (directory / "schema.sql").write_text(SCHEMA)
        yield directory


async def test_another_services_parallel_query_finds_room(project: Path) -> None:
    async with sealed(project / "watertight.yaml") as plane:
        greedy, until = await plane.supervisor.run_inside(
            "greedy", [sys.executable, "-c", SESSION + FILLS]
        )
        await asyncio.sleep(2)  # until it has begun to fill
        said = await said_inside(plane, "other", sys.executable, "-c", SESSION + ASKS)
        assert said.split() == ["50000"] * 8
        log = plane.layout.log("db", "server")
        async with asyncio.timeout(30):
            while "shared with its workers" not in log.read_text():  # noqa: ASYNC110 - a file
                await asyncio.sleep(0.1)
        until.write_eof()
        assert await greedy.read() == b""
        until.close()
        assert "greedy" in log.read_text()
