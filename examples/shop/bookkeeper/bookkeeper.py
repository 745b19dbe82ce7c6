"""The shop's bookkeeper: reads each order from the stream of events and books it. It only calls.

Both channels come ready from ``watertight.channel``: TLS, identity and rotation are not seen here.
"""

import asyncio
import json
import os

import nats.errors

import watertight

BOOK = """
INSERT INTO sales ("order", sku, quantity, total)
VALUES (%(order)s, %(sku)s, %(quantity)s, %(total)s)
ON CONFLICT DO NOTHING
"""


async def main() -> None:
    async with watertight.channel("orders-db") as database, watertight.channel("events") as events:
        orders = await events.jetstream().pull_subscribe_bind("bookkeeper", stream="ORDERS")
        while True:
            try:
                messages = await orders.fetch(10, timeout=5)
            except nats.errors.TimeoutError:
                continue  # nothing was sold
            for message in messages:
                sale = json.loads(message.data)
                async with database.connection() as connection:
                    await connection.execute(BOOK, sale)
                await message.ack()
                print(f"bookkeeper: booked {sale['order']}, {sale['total']}", flush=True)


if __name__ == "__main__":
    if "WATERTIGHT_CHANNELS" not in os.environ:
        raise SystemExit("bookkeeper: there are no channels to a database and to events here")
    asyncio.run(main())
