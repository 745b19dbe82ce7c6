"""Who waits lets another work, and is not kept from going on."""

import asyncio

import pytest

from watertight.attack.places import Places, idle


class Crowd:
    """Counts who works at once."""

    def __init__(self, places: int) -> None:
        self.places = Places(places)
        self.working = 0
        self.most = 0
        self.done = 0

    async def probe(self, silence: asyncio.Event | None = None) -> None:
        with (await self.places.take()).kept():
            if silence is not None:
                with idle():
                    await silence.wait()
            self.working += 1
            self.most = max(self.most, self.working)
            await asyncio.sleep(0)
            self.working -= 1
            self.done += 1


async def test_no_more_work_at_once_than_there_are_places() -> None:
    crowd = Crowd(3)
    await asyncio.gather(*(crowd.probe() for n in range(20)))
    assert crowd.most == 3
    assert crowd.done == 20


async def test_those_who_wait_keep_nobody_from_working() -> None:
    crowd, silence = Crowd(2), asyncio.Event()
    waiting = [asyncio.ensure_future(crowd.probe(silence)) for _ in range(5)]
    async with asyncio.timeout(5):
        await asyncio.gather(*(crowd.probe() for _ in range(5)))
    assert not any(task.done() for task in waiting)
    silence.set()
    async with asyncio.timeout(5):
        await asyncio.gather(*waiting)
    assert crowd.most == 5, "who waited goes on when it wants to"


async def test_nobody_begins_while_those_who_are_back_have_more_than_all_places() -> None:
    places, silence, order = Places(1), asyncio.Event(), list[str]()

    async def waits() -> None:
        with (await places.take()).kept():
            with idle():
                await silence.wait()
            order.append("back")
            await asyncio.sleep(0.01)

    async def begins() -> None:
        with (await places.take()).kept():
            order.append("begun")
            silence.set()
            await asyncio.sleep(0.005)

    await asyncio.gather(waits(), waits(), begins(), begins())
    assert order == ["begun", "back", "back", "begun"]


async def test_a_place_is_free_again_whatever_ends_its_probe() -> None:
    places = Places(1)

    async def fails() -> None:
        with (await places.take()).kept(), idle():
            raise ValueError("fails")

    async def never() -> None:
        with (await places.take()).kept():
            await asyncio.Event().wait()

    async def waits_too_long() -> None:
        async with asyncio.timeout(0.01):
            with idle():
                await asyncio.Event().wait()

    async def late() -> None:
        with (await places.take()).kept(), pytest.raises(TimeoutError):
            await waits_too_long()

    for _ in range(2):
        with pytest.raises(ValueError, match="fails"):
            await fails()
        await late()
    queued = [asyncio.ensure_future(never()) for _ in range(3)]
    await asyncio.sleep(0)
    for task in reversed(queued):
        task.cancel()
    await asyncio.gather(*queued, return_exceptions=True)
    assert await _free(places) == 1


async def test_a_probe_that_waits_in_two_ways_at_once_has_one_place() -> None:
    places = Places(1)

    async def waits(seconds: float) -> None:
        with idle():
            await asyncio.sleep(seconds)

    with (await places.take()).kept():
        await asyncio.gather(waits(0), waits(0), waits(0.01))
    assert await _free(places) == 1


async def _free(places: Places) -> int:
    count = 0
    try:
        while True:
            async with asyncio.timeout(0.01):
                await places.take()
            count += 1
    except TimeoutError:
        return count
