"""Work at a database and a broker, run inside a service's pod: what was done, what went wrong.

    python load.py CHANNEL        reads lines until stdin ends, then prints one JSON object

Handed to ``python -c`` as text, so it imports nothing of the tests.
"""

import asyncio
import contextlib
import json
import sys
import time
from typing import Any

import aio_pika

import watertight
from watertight.sdk import postgresql

PAUSE_SECONDS = 0.05
"""Between two operations: without one, all that the machine has goes into them, and the proof is
none the better."""

done = 0
wrong: list[str] = []
last = 0.0
"""When the last operation was done, in seconds since the epoch."""


async def at_database(pool: Any) -> None:
    """Pooled connections, and a new one each time."""
    async with pool.connection() as connection:
        await connection.execute("INSERT INTO orders (note) VALUES ('load')")
    await asyncio.to_thread(count_orders)


def count_orders() -> None:
    """On a connection of its own."""
    with postgresql.connect("orders-db") as connection:
        connection.execute("SELECT count(*) FROM orders")


async def at_broker(client: Any) -> None:
    """Each message is acknowledged by the stream."""
    await client.jetstream().publish("orders.placed", b"load", timeout=5)


async def at_jobs(connection: Any) -> None:
    """Each message is confirmed by the broker, on a channel of its own."""
    async with connection.channel() as channel:
        exchange = await channel.get_exchange("to.parcels", ensure=False)
        await exchange.publish(aio_pika.Message(b"load"), "parcels", timeout=5)


OPERATIONS = {"orders-db": at_database, "events": at_broker, "jobs": at_jobs}


async def work(name: str, over: asyncio.Event) -> None:
    """One operation after the other; an error is counted, and the next one tried."""
    global done, last
    operation = OPERATIONS[name]
    async with watertight.channel(name) as client:
        print("working", flush=True)
        while not over.is_set():
            try:
                await operation(client)
            except Exception as error:  # noqa: BLE001  what is counted
                wrong.append(f"{type(error).__name__}: {error}")
                await asyncio.sleep(0.01)
            else:
                done, last = done + 1, time.time()
                await asyncio.sleep(PAUSE_SECONDS)


async def main() -> None:
    over = asyncio.Event()
    loop = asyncio.get_running_loop()
    working = asyncio.ensure_future(work(sys.argv[1], over))
    await loop.run_in_executor(None, sys.stdin.read)
    over.set()
    working.add_done_callback(lambda _: None)
    with contextlib.suppress(Exception):
        async with asyncio.timeout(3):  # who is revoked waits for a connection
            await working
    print(json.dumps({"done": done, "wrong": len(wrong), "said": wrong[:3], "last": last}))


asyncio.run(main())
