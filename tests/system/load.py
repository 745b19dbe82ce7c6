"""Steady load on one channel, from inside the caller's sandbox: standard library only.

Run as ``python load.py '<json>'`` with ``{"kind": "http"|"tcp"|"grpc", "host", "port", "method",
"path", "rate", "seconds", "connections"}``; prints ``{"sent", "lost", "errors"}`` as JSON. A
request is lost if it was sent and no answer of the app's came back: there are no second tries.
With ``ca`` (a file) HTTP is spoken over TLS to ``server_name``. gRPC needs ``grpcio``, as any app
that speaks it does.
"""

import asyncio
import json
import ssl
import sys
import time
from collections import Counter
from typing import Any

ANSWER_DEADLINE_SECONDS = 10.0


class HTTPLoad:
    """GET (or another method) on keep-alive connections."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self.plan = plan

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        address = (self.plan["host"], self.plan["port"])
        if "ca" not in self.plan:
            return await asyncio.open_connection(*address)
        # Read anew each time, as roots rotate.
        context = ssl.create_default_context(cafile=self.plan["ca"])
        name = self.plan["server_name"]
        return await asyncio.open_connection(*address, ssl=context, server_hostname=name)

    async def exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request; returns whether the connection may be used again."""
        body = self.plan.get("body", "").encode()
        head = (
            f"{self.plan['method']} {self.plan['path']} HTTP/1.1\r\n"
            f"host: {self.plan.get('server_name', self.plan['host'])}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode() + body)
        await writer.drain()
        status, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        if int(status.split(" ")[1]) >= 400:
            raise ConnectionError(status)
        headers = dict(line.lower().split(": ", 1) for line in lines if line)
        if "content-length" in headers:
            await reader.readexactly(int(headers["content-length"]))
        else:
            while size := int(await reader.readline(), 16):
                await reader.readexactly(size + 2)
            await reader.readline()
        return headers.get("connection") != "close"


class TCPLoad(HTTPLoad):
    """A line and its answer on long-lived connections."""

    async def exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        writer.write(self.plan["line"].encode() + b"\n")
        await writer.drain()
        if not await reader.readline():
            message = "closed before the answer"
            raise ConnectionError(message)
        return True


async def grpc_worker(
    plan: dict[str, Any], interval: float, until: float, result: Counter[str]
) -> None:
    """One channel's worth of unary calls with an empty message."""
    import grpc  # noqa: PLC0415 - only who speaks it needs it

    async with grpc.aio.insecure_channel(f"{plan['host']}:{plan['port']}") as channel:
        call = channel.unary_unary(plan["path"])
        due = time.monotonic()
        while (due := due + interval) < until:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            result["sent"] += 1
            try:
                await call(b"", timeout=ANSWER_DEADLINE_SECONDS)
            except grpc.RpcError as error:
                result["lost"] += 1
                result[str(error)[:200]] += 1


async def worker(load: HTTPLoad, interval: float, until: float, result: Counter[str]) -> None:
    """One connection's worth of load: a request each ``interval`` seconds."""
    connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
    due = time.monotonic()
    while (due := due + interval) < until:
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        if connection is not None and connection[0].at_eof():
            connection[1].close()
            connection = None
        result["sent"] += 1
        try:
            async with asyncio.timeout(ANSWER_DEADLINE_SECONDS):
                connection = connection or await load.connect()
                if not await load.exchange(*connection):
                    connection[1].close()
                    connection = None
        except (OSError, EOFError, TimeoutError, ValueError) as error:
            result["lost"] += 1
            result[f"{type(error).__name__}: {error}"[:200]] += 1
            if connection is not None:
                connection[1].close()
            connection = None
    if connection is not None:
        connection[1].close()


async def main(plan: dict[str, Any]) -> dict[str, Any]:
    """Runs the plan and counts."""
    result: Counter[str] = Counter()
    until = time.monotonic() + plan["seconds"]
    interval = plan["connections"] / plan["rate"]
    if plan["kind"] == "grpc":
        workers = [grpc_worker(plan, interval, until, result) for _ in range(plan["connections"])]
    else:
        load = (TCPLoad if plan["kind"] == "tcp" else HTTPLoad)(plan)
        workers = [worker(load, interval, until, result) for _ in range(plan["connections"])]
    await asyncio.gather(*workers)
    sent, lost = result.pop("sent", 0), result.pop("lost", 0)
    return {"sent": sent, "lost": lost, "errors": dict(result)}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asyncio.run(main(json.loads(sys.argv[1])))) + "\n")
