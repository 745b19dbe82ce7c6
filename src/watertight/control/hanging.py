"""Proxies that run and answer nothing. Their pods' inits start again what ends, not what hangs.

As an orchestrator's liveness probe: who is silent twice in a row is ended, and starts again.
"""

import asyncio
import signal
from collections.abc import Awaitable, Callable

from watertight.control.plane import ControlPlane
from watertight.dataplane.admin import answers
from watertight.runtime.pod_wire import PROXY


class Hanging:
    """Who was silent at the last look."""

    def __init__(
        self,
        silent: Callable[[], Awaitable[frozenset[str]]],
        end: Callable[[str], Awaitable[None]],
    ) -> None:
        self._silent = silent
        self._end = end
        self._before: frozenset[str] = frozenset()

    @classmethod
    def of(cls, plane: ControlPlane) -> "Hanging":
        """The proxies of what runs."""

        async def silent() -> frozenset[str]:
            names = tuple(plane.supervisor.pods)
            said = await asyncio.gather(*(answers(plane.placement.admin_socket(n)) for n in names))
            return frozenset(
                name for name, answered in zip(names, said, strict=True) if not answered
            )

        async def end(name: str) -> None:
            await plane.supervisor.signal_process(name, PROXY, signal.SIGKILL)

        return cls(silent, end)

    async def look(self) -> frozenset[str]:
        """Ends who was silent the last time, too, and returns their names.

        Raises WatertightError or OSError of an init that does not obey.
        """
        silent = await self._silent()
        hang, self._before = silent & self._before, silent - self._before
        await asyncio.gather(*map(self._end, sorted(hang)))
        return hang
