"""A wire that starts inside a sandbox: the probe agent connects, the prober speaks."""

import asyncio
import base64

from watertight.attack.arena import Inside
from watertight.attack.patience import patience
from watertight.attack.wire import Absent, Closed


class InsideWire:
    """A TCP connection of the probe agent, as a :class:`~watertight.attack.wire.Wire`."""

    def __init__(self, inside: Inside, stream: int) -> None:
        self._inside = inside
        self._stream = stream

    async def send(self, data: bytes) -> None:
        """See :class:`~watertight.attack.wire.Wire`."""
        answer = await self._inside.call(
            "send", stream=self._stream, data=base64.b64encode(data).decode()
        )
        if "error" in answer:
            raise Closed(answer["error"])

    async def receive(self, timeout_seconds: float) -> bytes:
        """See :class:`~watertight.attack.wire.Wire`."""
        return await self._received("receive", timeout_seconds)

    async def ask(self, data: bytes, timeout_seconds: float) -> bytes:
        """``send`` and ``receive`` at once, up to what seems a whole answer in HTTP/1.1."""
        return await self._received("ask", timeout_seconds, data=data)

    async def _received(self, operation: str, timeout_seconds: float, **what: bytes) -> bytes:
        """The agent waits as long as told; we wait on if the host grew slow meanwhile."""
        now = asyncio.get_running_loop().time
        began = now()
        while True:
            ends = began + patience(timeout_seconds)
            answer = await self._inside.call(
                operation, stream=self._stream, timeout_seconds=max(0.0, ends - now()), **what
            )
            if "error" in answer:
                raise Closed(answer["error"])
            if answer.get("reset"):
                raise Closed("connection reset")
            if answer["data"] or answer["closed"]:
                return base64.b64decode(answer["data"])
            if began + patience(timeout_seconds) <= ends:
                raise TimeoutError
            operation, what = "receive", {}

    async def finish(self) -> None:
        """Sends nothing more; the other side may go on."""
        await self._inside.call("finish", stream=self._stream)

    async def close(self) -> None:
        """See :class:`~watertight.attack.wire.Wire`."""
        await self._inside.call("close", stream=self._stream)


async def dial_inside(
    inside: Inside, host: str, port: int, *, timeout_seconds: float
) -> InsideWire:
    """Connects from inside. Raises :class:`Absent` with the reason if nothing lets us."""
    answer = await inside.call(
        "open", host=host, port=port, timeout_seconds=patience(timeout_seconds)
    )
    if "error" in answer:
        raise Absent(answer["error"])
    return InsideWire(inside, answer["stream"])


async def dial_socket(inside: Inside, path: str, *, timeout_seconds: float) -> InsideWire:
    """Connects to a Unix socket from inside. Raises :class:`Absent` if nothing lets us."""
    answer = await inside.call("open", path=path, timeout_seconds=patience(timeout_seconds))
    if "error" in answer:
        raise Absent(answer["error"])
    return InsideWire(inside, answer["stream"])
