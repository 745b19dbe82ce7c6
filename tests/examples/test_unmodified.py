"""The programs that nobody here wrote start as declared, and call one another plainly."""

import sqlite3
from pathlib import Path

import httpx

from tests.examples.plain import declaration, running_plainly


async def test_they_run_as_declared(tmp_path: Path) -> None:
    async with (
        running_plainly(declaration("unmodified"), tmp_path) as ports,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{ports['front']}", trust_env=False) as client,
    ):
        through = await client.get("/bin/get", params={"a": "1"})
        assert through.json()["args"] == {"a": "1"}
        library = await client.get("/library/library/books.json")
        assert library.json()["rows"][0][1] == "The Mythical Man-Month"


def test_the_database_is_its_sql() -> None:
    directory = declaration("unmodified").parent
    committed = sqlite3.connect(directory / "library.db")
    made = sqlite3.connect(":memory:")
    try:
        made.executescript((directory / "library.sql").read_text())
        assert list(committed.iterdump()) == list(made.iterdump())
    finally:
        committed.close()
        made.close()
