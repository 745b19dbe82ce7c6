"""The doors of a server, without Envoy: one Unix socket for each caller, bytes passed through."""

import asyncio
import math
from collections.abc import Mapping

from watertight.identity.workload_api.splice import Stream, splice
from watertight.model.placement import Placement
from watertight.testing.host import PlainHost


class Doors:
    """What the server's proxy would do: one Unix socket a caller, its bytes passed through."""

    bounds: Mapping[str, int]
    """How many connections at once, by caller."""

    def __init__(self, host: PlainHost, placement: Placement) -> None:
        self._host = host
        self._placement = placement
        self._servers: list[asyncio.Server] = []
        self._passing: set[asyncio.Task[None] | None] = set()
        """Held: the event loop forgets a task that waits, and its server's end would stay open."""
        self.bounds = {}

    async def open(self, resource: str, caller: str) -> None:
        path = self._placement.door(resource, caller)
        path.parent.mkdir(parents=True, exist_ok=True)
        open_now = 0

        async def passing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal open_now
            if open_now >= self.bounds.get(caller, math.inf):
                writer.close()
                return
            open_now += 1
            try:
                await self._pass(reader, writer)
            finally:
                open_now -= 1

        self._servers.append(await asyncio.start_unix_server(passing, path))

    async def close(self) -> None:
        for server in self._servers:
            server.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        self._passing.add(task)
        try:
            inner = await asyncio.open_connection(sock=await self._host.connect(self._host.port))
            await splice(Stream(reader, writer), Stream(*inner))
        except OSError:
            writer.close()
        finally:
            self._passing.discard(task)
