"""A server that ran with one account for all goes over to the new layout and loses nothing."""

import asyncio
import re
from dataclasses import dataclass, field

import pytest
from nats.aio.msg import Msg
from nats.errors import Error

from tests.rig import running_server, with_channels
from tests.servers.nats.clients import Session, connected, flushed
from tests.servers.nats.sabotages import one_account
from tests.servers.nats.shop import OLD_SHOP, SHOP
from watertight.servers.nats.operator import operator
from watertight.servers.nats.server import NATS

pytestmark = pytest.mark.asyncio

DEADLINE_SECONDS = 15.0
FILE = "nats.conf"


@pytest.mark.parametrize("shop", [SHOP, OLD_SHOP], ids=["new", "old"])
async def test_streams_and_positions_outlive_the_change_of_accounts(shop: str) -> None:
    async with running_server(NATS(), shop) as rig:
        await rig.host.stop()
        old = re.sub(
            r"^max_pending: .*\n|^    limits .*\n",
            "",
            one_account(rig.plan.files[FILE]),
            flags=re.MULTILINE,
        )
        await rig.host.write({FILE: old})
        await rig.host.start()
        async with connected(rig, "orders") as orders:
            for number in range(20):
                await orders.nats.jetstream().publish("orders.placed", str(number).encode())
        async with connected(rig, "mailer") as mailer:
            bound = await mailer.nats.jetstream().pull_subscribe_bind("mailer", stream="ORDERS")
            for message in await bound.fetch(7, timeout=DEADLINE_SECONDS):
                await message.ack_sync()

        assert await rig.enforcer.drift(rig.plan, rig.host) == ["nats.conf was changed by hand"]
        assert (await rig.enforcer.apply(rig.plan, rig.host)).changed == (FILE, "started")
        async with operator(rig.plan, rig.host) as session:
            state = (await session.ask("$JS.API.STREAM.INFO.ORDERS"))["state"]
        assert (state["first_seq"], state["last_seq"]) == (1, 20)
        async with connected(rig, "mailer") as mailer:
            bound = await mailer.nats.jetstream().pull_subscribe_bind("mailer", stream="ORDERS")
            rest = await bound.fetch(13, timeout=DEADLINE_SECONDS)
            assert [message.data for message in rest] == [str(n).encode() for n in range(7, 20)]


@dataclass
class Load:
    """Everybody works: what each sent, and what came of it."""

    orders: Session
    mailer: Session
    prices: Session
    stop: bool = False
    sent: list[bytes] = field(default_factory=list)
    got: list[bytes] = field(default_factory=list)
    told: list[bytes] = field(default_factory=list)
    heard: list[bytes] = field(default_factory=list)
    answers: int = 0

    async def begin(self) -> None:
        async def answer(message: Msg) -> None:
            await message.respond(b"7")

        async def hear(message: Msg) -> None:
            self.heard.append(message.data)

        await self.prices.nats.subscribe("price.ask", cb=answer)
        await self.orders.nats.subscribe("price.changed", cb=hear)
        await flushed(self.prices)
        await flushed(self.orders)

    async def publish(self) -> None:
        while not self.stop:
            body = str(len(self.sent)).encode()
            stream = self.orders.nats.jetstream()
            await stream.publish("orders.placed", body, timeout=DEADLINE_SECONDS)
            self.sent.append(body)

    async def ask(self) -> None:
        while not self.stop:
            await self.orders.nats.request("price.ask", timeout=DEADLINE_SECONDS)
            self.answers += 1

    async def tell(self) -> None:
        while not self.stop:
            self.told.append(str(len(self.told)).encode())
            await self.prices.nats.publish("price.changed", self.told[-1])
            await flushed(self.prices)

    async def read(self) -> None:
        stream = self.mailer.nats.jetstream()
        bound = await stream.pull_subscribe_bind("mailer", stream="ORDERS")
        while not self.stop or len(set(self.got)) < len(self.sent):
            try:
                for message in await bound.fetch(50, timeout=1):
                    self.got.append(message.data)
                    await message.ack_sync()
            except Error:
                continue  # no message in a second

    async def more(self, count: int) -> None:
        """Until each has done so much more."""

        def done() -> tuple[int, ...]:
            return len(self.sent), len(self.got), len(self.told), self.answers

        before = done()
        while any(n < b + count for n, b in zip(done(), before, strict=True)):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("shop", [SHOP, OLD_SHOP], ids=["new", "old"])
async def test_services_come_and_go_while_others_work_and_lose_nothing(shop: str) -> None:
    """Over reloads that change accounts; answers that are on their way, too."""
    async with (
        running_server(NATS(), shop) as rig,
        connected(rig, "orders") as orders,
        connected(rig, "mailer") as mailer,
        connected(rig, "prices") as prices,
    ):
        few = rig.compile(with_channels(rig.system, "orders", "mailer", "prices"))
        load = Load(orders, mailer, prices)
        await load.begin()
        async with asyncio.timeout(120), asyncio.TaskGroup() as group:
            for work in (load.publish, load.ask, load.tell, load.read):
                group.create_task(work())
            for plan in (few, rig.plan, few, rig.plan):
                await rig.enforcer.apply(plan, rig.host)
                await load.more(20)
            load.stop = True
        await flushed(prices)
        await flushed(orders)
        assert set(load.got) == set(load.sent)
        assert load.heard == load.told
        assert orders.errors == mailer.errors == prices.errors == []
