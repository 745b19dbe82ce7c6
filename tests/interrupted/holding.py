"""What :mod:`tests.interrupted.test_keeper` interrupts: real servers, and nobody who ends them.

Not collected by itself. ``HELD`` names the file that says that all runs; ``HOLD`` says what.
"""

import json
import os
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

from tests.mesh import running_mesh
from tests.rig import running_server
from tests.servers.nats.shop import SHOP as EVENTS
from tests.servers.postgresql.rig import shop_database
from tests.system.running import small_system
from tests.test_mesh import SHOP as MESH
from watertight.runtime import linux
from watertight.servers.nats.server import NATS


async def _postgresql(stack: AsyncExitStack) -> None:
    await stack.enter_async_context(shop_database())


async def _nats(stack: AsyncExitStack) -> None:
    await stack.enter_async_context(running_server(NATS(), EVENTS))


async def _envoy(stack: AsyncExitStack) -> None:
    await stack.enter_async_context(running_mesh(MESH))


async def _system(stack: AsyncExitStack) -> None:
    stack.enter_context(small_system(as_root=os.geteuid() == 0)).start()


async def _mount(stack: AsyncExitStack) -> None:
    place = tempfile.mkdtemp()
    linux.mount("none", Path(place), "tmpfs")


HOLDS: dict[str, Callable[[AsyncExitStack], Awaitable[None]]] = {
    "postgresql": _postgresql,
    "nats": _nats,
    "envoy": _envoy,
    "system": _system,
    "mount": _mount,
}


async def test_that_holds_on() -> None:
    async with AsyncExitStack() as stack:
        for name in os.environ["HOLD"].split():
            await HOLDS[name](stack)
        held = Path(os.environ["HELD"])
        new = held.with_suffix(".new")
        new.write_text(json.dumps(tempfile.gettempdir()))
        new.replace(held)
        while True:  # deaf to what interrupts it: no fixture ends, however long one waits
            try:
                time.sleep(600)  # noqa: ASYNC251
            except KeyboardInterrupt:
                continue
