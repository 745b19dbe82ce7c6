"""The prober's end of the probe agent: requests out, answers in, many at once."""

import asyncio
import base64
import contextlib
import json
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from watertight.errors import WatertightError

Streams: TypeAlias = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Run: TypeAlias = Callable[[str, Sequence[str]], Awaitable[Streams]]
"""Runs argv inside the sandbox of a service, as its app, and hands over its stdin and stdout."""


class FootholdLost(WatertightError):
    """The probe agent could not start in a sandbox, or ended while it was needed."""


def agent_argv(python: str = sys.executable) -> list[str]:
    """The command that starts the agent; its text rides along, so no file need be in sight."""
    source = Path(__file__).with_name("agent.py").read_text()
    return [python, "-I", "-c", source]


class Foothold:
    """One running agent; implements ``attack.arena.Inside``."""

    def __init__(self, service: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        self.service = service
        self._reader = reader
        self._writer = writer
        self._next = 0
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._lost = ""
        self._task = asyncio.get_running_loop().create_task(self._listen())

    @classmethod
    async def gain(cls, service: str, run: Run) -> "Foothold":
        """Starts the agent inside ``service``'s sandbox. Raises :class:`FootholdLost`."""
        try:
            reader, writer = await run(service, agent_argv())
        except OSError as error:
            raise FootholdLost(
                f"No probe agent could be started inside {service}: {error}.",
                remedy=f"Look whether {service} runs: watertight status.",
            ) from error
        return cls(service, reader, writer)

    async def call(self, operation: str, **arguments: Any) -> dict[str, Any]:
        """One operation; ``bytes`` arguments are encoded. Raises :class:`FootholdLost`."""
        if self._lost:
            raise self._failure()
        self._next += 1
        number = self._next
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        plain = {
            k: base64.b64encode(v).decode() if isinstance(v, bytes) else v
            for k, v in arguments.items()
        }
        line = json.dumps({"id": number, "operation": operation, "arguments": plain})
        try:
            self._writer.write(line.encode() + b"\n")
            await self._writer.drain()
            return await future
        except OSError as error:
            self._lost = str(error)
            raise self._failure() from error
        finally:
            self._waiting.pop(number, None)

    async def close(self) -> None:
        """Ends the agent (its stdin ends) and waits for it."""
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def _listen(self) -> None:
        try:
            while line := await self._reader.readline():
                message = json.loads(line)
                future = self._waiting.get(message["id"])
                if future is not None and not future.done():
                    future.set_result(message["answer"])
            self._lost = "it ended"
        except (OSError, ValueError) as error:
            self._lost = str(error)
        except (KeyError, TypeError):
            self._lost = "it answered what is no answer"  # the sandbox that it sits in is hostile
        finally:
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(self._failure())

    def _failure(self) -> FootholdLost:
        return FootholdLost(
            f"The probe agent inside {self.service} was lost: {self._lost or 'closed'}.",
            remedy=f"Look at the log of {self.service}.",
        )
