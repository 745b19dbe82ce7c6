"""Load on a channel while every certificate that it rests on is rotated."""

import asyncio
from collections.abc import Awaitable, Callable

from tests.identity.serving.polling import eventually
from tests.sdk.world import World

Operation = Callable[[int], Awaitable[None]]
Reload = Callable[[], Awaitable[None]]
PAUSE_SECONDS = 0.02
"""Of a worker between two operations: what is asked for is how many there are at each step, and
not that they take all of the machine while a step is made."""


class Load:
    """Workers that do one operation over and over; the first error of any ends the test."""

    def __init__(self) -> None:
        self.done = 0
        """Operations so far."""
        self._over = False

    async def work(self, worker: int, operation: Operation) -> None:
        """One worker, to the end."""
        while not self._over:
            await operation(worker)
            self.done += 1
            await asyncio.sleep(PAUSE_SECONDS)

    async def more(self, operations: int) -> None:
        """Waits until so many more are done."""
        until = self.done + operations
        await eventually(lambda: self.done >= until)

    def end(self) -> None:
        """Workers finish what they are in."""
        self._over = True


async def rotate_everything(
    world: World,
    server: str,
    reload: Reload,
    operation: Operation,
    *,
    workers: int = 6,
    between: int = 100,
) -> int:
    """Leaf, issuer and root are rotated under load; raises what any operation raises.

    ``between``: operations from one step to the next. Returns how many operations there were.
    """
    load = Load()
    async with asyncio.TaskGroup() as group:
        for worker in range(workers):
            group.create_task(load.work(worker, operation))

        async def step() -> None:
            await reload()
            await load.more(between)

        for _ in range(3):
            await world.rotate("orders")
            await load.more(between)  # no server keeps a client's leaf
            await world.rotate(server)
            await step()
        await world.keeper.rotate_issuer()
        world.deliver()
        await step()
        sequence = world.keeper.prepare_root()
        world.deliver()
        await step()
        await world.keeper.activate_root(sequence)
        world.deliver()
        await step()
        await world.rotate("orders", server)
        await step()
        load.end()
    return load.done
