"""Merges a batch by way of a temporary table."""

import json
import os
import time
from pathlib import Path

import psycopg


def merged() -> str:
    try:
        with psycopg.connect() as connection:
            connection.execute("CREATE TEMPORARY TABLE batch (id int, name text) ON COMMIT DROP")
            connection.execute("INSERT INTO batch VALUES (1, 'a')")
            query = "INSERT INTO items SELECT * FROM batch RETURNING id"
            return str(connection.execute(query).fetchall())
    except psycopg.Error as error:
        return str(error)


if __name__ == "__main__":
    found = merged()
    result = Path(os.environ["WATERTIGHT_DATA"], "result.json")
    result.with_suffix(".new").write_text(json.dumps(found))
    result.with_suffix(".new").rename(result)
    time.sleep(100_000)
