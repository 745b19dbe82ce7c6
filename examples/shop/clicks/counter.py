"""The shop's counter: tells, again and again, what somebody has looked at."""

import asyncio
import itertools

from aiokafka import AIOKafkaProducer
from broker import settings

PAUSE_SECONDS = 1
SKUS = (b"teapot", b"kettle", b"cup")


async def main() -> None:
    async with AIOKafkaProducer(**settings()) as producer:
        for number in itertools.count():
            await producer.send_and_wait("clicks", SKUS[number % len(SKUS)])
            print(f"counter: told {number + 1}", flush=True)
            await asyncio.sleep(PAUSE_SECONDS)


if __name__ == "__main__":
    asyncio.run(main())
