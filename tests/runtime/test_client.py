"""One pod's control socket, as the operator's end of it behaves."""

import asyncio
import os
from pathlib import Path

import pytest

from watertight.runtime.pod_client import Pod
from watertight.runtime.pod_init import CONTROL_SOCKET
from watertight.runtime.proc import start_time


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """What an init does with any request."""
    await reader.readline()
    writer.write(b'{"ok": true}\n')
    writer.close()


async def test_a_deadline_that_meets_the_answer_is_not_lost(tmp_path: Path) -> None:
    """Cancelled at any step of the way, asking ends as cancelled: the caller's deadline counts."""
    server = await asyncio.start_unix_server(answer, tmp_path / CONTROL_SOCKET)
    pod = Pod("orders", tmp_path, os.getpid(), start_time(os.getpid()) or 0)
    async with server:
        for steps in range(10_000):
            asking = asyncio.ensure_future(pod.ask("status"))
            for _ in range(steps):
                await asyncio.sleep(0)
            if asking.done():
                break
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
    assert await asking == {"ok": True}
    pod.forget()
