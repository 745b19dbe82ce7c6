"""Kafka over a channel: aiokafka's producers and consumers, who are let in by certificate alone.

How old certificates leave: a connection stays for as long as it works, and each new one uses the
newest SVID; aiokafka makes them as it needs them, and sends again what was not acknowledged. A
revoked service is cut off by the server.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

from watertight.sdk.credentials import Credentials
from watertight.sdk.endpoints import Endpoint, find
from watertight.sdk.opening import OPEN_SECONDS, driver_of, persistently
from watertight.sdk.rotation import RotatingContext

if TYPE_CHECKING:
    from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

KIND = "kafka"


class Clients:
    """Starts producers and consumers, and stops them at the end of the channel's block."""

    def __init__(
        self,
        endpoint: Endpoint,
        context: RotatingContext,
        open_seconds: float,
        until_end: AsyncExitStack,
    ) -> None:
        self._endpoint, self._open_seconds = endpoint, open_seconds
        self._until_end = until_end
        self._broker: dict[str, Any] = {
            "bootstrap_servers": f"{endpoint.address}:{endpoint.port}",
            "security_protocol": "SSL",
            "ssl_context": context,
        }

    async def producer(self, **options: Any) -> "AIOKafkaProducer":
        """A started producer, which writes each message once, unless ``enable_idempotence`` is off.

        A ``transactional_id`` is the service's name, or begins with it and a dot. ``options`` go
        to ``aiokafka.AIOKafkaProducer``. Raises :class:`~watertight.sdk.ChannelUnavailable`, and
        what the broker refuses.
        """
        from aiokafka import AIOKafkaProducer  # noqa: PLC0415

        chosen = {"client_id": self._endpoint.service, "enable_idempotence": True, **options}
        return await self._started(lambda: AIOKafkaProducer(**self._broker, **chosen))

    async def consumer(self, *topics: str, **options: Any) -> "AIOKafkaConsumer":
        """A started consumer, in the service's own group unless ``group_id`` says another.

        ``options`` go to ``aiokafka.AIOKafkaConsumer``. Raises as :meth:`producer` does.
        """
        from aiokafka import AIOKafkaConsumer  # noqa: PLC0415

        chosen = {
            "client_id": self._endpoint.service,
            "group_id": self._endpoint.parameter("group"),
            **options,
        }
        return await self._started(lambda: AIOKafkaConsumer(*topics, **self._broker, **chosen))

    async def _started(self, make: Callable[[], Any]) -> Any:
        from aiokafka.errors import KafkaConnectionError  # noqa: PLC0415

        async def start() -> Any:
            made = make()
            try:
                await made.start()
            except BaseException:
                await made.stop()
                raise
            return made

        failures = (KafkaConnectionError,)
        started = await persistently(self._endpoint, start, failures, self._open_seconds)
        self._until_end.push_async_callback(started.stop)
        return started


@asynccontextmanager
async def clients(name: str, /, *, open_seconds: float = OPEN_SECONDS) -> AsyncIterator[Clients]:
    """What makes producers and consumers, once the broker is there.

    Raises :class:`~watertight.sdk.ChannelError`.
    """
    endpoint = find(name, KIND)
    with driver_of(endpoint):
        import aiokafka  # noqa: F401, PLC0415
    context = RotatingContext(Credentials(endpoint), endpoint.host)

    async def look() -> None:
        """aiokafka only logs why it comes to no broker."""
        _, writer = await asyncio.open_connection(endpoint.address, endpoint.port, ssl=context)
        writer.transport.abort()

    await persistently(endpoint, look, (), open_seconds)
    async with AsyncExitStack() as until_end:
        yield Clients(endpoint, context, open_seconds, until_end)


DRIVERS = {"aiokafka": clients}
"""Who opens a channel, by driver; the first is the one that is taken."""
