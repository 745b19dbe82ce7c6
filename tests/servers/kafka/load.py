"""Work at a broker, run inside a service's pod: what was sent, and what was heard of it.

Reads until stdin ends, then prints one JSON object. Handed to ``python -c`` as text, so it imports
nothing of the tests.
"""

import asyncio
import contextlib
import json
import sys

import watertight

PAUSE_SECONDS = 0.05
"""Between two messages: without one, all that the machine has goes into them."""
TOPIC = "orders.placed"

sent: list[str] = []
heard: list[str] = []


async def main() -> None:
    """A producer and a consumer that stay, and a new producer for every tenth message."""
    over = asyncio.Event()
    async with watertight.channel("events", driver="aiokafka") as kafka:
        producer = await kafka.producer()
        consumer = await kafka.consumer(TOPIC, auto_offset_reset="earliest")

        async def hear() -> None:
            async for message in consumer:
                text = message.value.decode()
                if text.startswith("number"):
                    heard.append(text)

        hearing = asyncio.ensure_future(hear())
        print("working", flush=True)
        asyncio.get_running_loop().run_in_executor(None, sys.stdin.read).add_done_callback(
            lambda _: over.set()
        )
        while not over.is_set():
            text = f"number {len(sent)}"
            if len(sent) % 10:
                await producer.send_and_wait(TOPIC, text.encode())
            else:
                async with watertight.channel("events", driver="aiokafka") as another:
                    new = await another.producer()
                    await new.send_and_wait(TOPIC, text.encode())
            sent.append(text)
            await asyncio.sleep(PAUSE_SECONDS)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(20):
                while len(heard) < len(sent):  # noqa: ASYNC110  another task appends
                    await asyncio.sleep(PAUSE_SECONDS)
        hearing.cancel()
    print(
        json.dumps({"sent": len(sent), "heard": len(heard), "all": sorted(heard) == sorted(sent)})
    )


asyncio.run(main())
