"""Two services that go on working while others attack: every message arrives, in order."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aio_pika
from aio_pika.abc import AbstractIncomingMessage

from tests.identity.serving.polling import eventually_async
from tests.rig import Rig
from tests.servers.rabbitmq.clients import connected
from watertight.servers.rabbitmq.declaration import Broker, Grants
from watertight.servers.rabbitmq.uses import matches

PAUSE_SECONDS = 0.01
MARK = "mark "


@dataclass(frozen=True)
class Route:
    """From whom to whom, and how."""

    sender: str
    exchange: str
    key: str
    queue: str
    reader: str


@dataclass
class Seen:
    """What the reader got."""

    sent: int = 0
    marks: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    """What is of nobody's making but the attackers'."""


@asynccontextmanager
async def courier(rig: Rig, route: Route) -> AsyncIterator[Seen]:
    """Sends marks all the time, and reads what comes; at the end, until the last one has come."""
    seen = Seen()
    async with connected(rig, route.sender) as one, connected(rig, route.reader) as other:
        sending, reading = await one.channel(), await other.channel()
        exchange = await sending.get_exchange(route.exchange, ensure=False)
        queue = await reading.get_queue(route.queue, ensure=False)

        async def read(message: AbstractIncomingMessage) -> None:
            text = message.body.decode(errors="replace")
            (seen.marks if text.startswith(MARK) else seen.others).append(text)
            await message.ack()

        async def send() -> None:
            while True:
                await exchange.publish(aio_pika.Message(f"{MARK}{seen.sent}".encode()), route.key)
                seen.sent += 1  # confirmed
                await asyncio.sleep(PAUSE_SECONDS)

        async def all_has_come() -> bool:
            return len(seen.marks) >= seen.sent

        await queue.consume(read)
        async with asyncio.TaskGroup() as group:
            sending_on = group.create_task(send())
            yield seen
            sending_on.cancel()
        await eventually_async(all_has_come)


def leads(declared: Broker, queue: str) -> Callable[[str, str], bool]:
    """Whether a message to an exchange with a key gets into the queue, by the declaration."""

    def does(exchange: str, key: str) -> bool:
        if exchange == f"to.{queue}":
            return key == queue
        kind = declared.exchanges.get(exchange)
        keys = [b.key for b in declared.bindings if (b.exchange, b.queue) == (exchange, queue)]
        if kind == "topic":
            return any(matches(bound, key) for bound in keys)
        return bool(keys) if kind == "fanout" else key in keys

    return does


def allows(granted: Grants, declared: Broker, exchange: str, key: str) -> bool:
    """Whether these grants let their holder send so."""
    if exchange.removeprefix("to.") in granted.send and exchange.startswith("to."):
        return True
    if exchange not in granted.publish:
        return False
    kind, patterns = declared.exchanges[exchange], granted.publish[exchange]
    return kind != "topic" or any(matches(pattern, key) for pattern in patterns)
