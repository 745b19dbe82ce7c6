"""The shop's trends: reads what customers look at, and says what most of them do."""

import asyncio
import os
from collections import Counter

from aiokafka import AIOKafkaConsumer
from broker import settings


async def main() -> None:
    seen: Counter[str] = Counter()
    group = os.environ["CLICKS_GROUP"]
    async with AIOKafkaConsumer("clicks", group_id=group, **settings()) as consumer:
        async for click in consumer:
            seen[click.value.decode()] += 1
            [(sku, times)] = seen.most_common(1)
            print(f"trends: {sku}, {times} of {seen.total()}", flush=True)


if __name__ == "__main__":
    asyncio.run(main())
