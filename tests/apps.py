"""Small real apps for a test mesh: each says what reached it, and nothing else.

They run in the test's own event loop, on 127.0.0.1, and on a port of the kernel's if none is said.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import grpc
import h11

from watertight.model.system import Protocol

HOST = "127.0.0.1"


@asynccontextmanager
async def running_app(service: str, protocol: Protocol, port: int = 0) -> AsyncIterator[int]:
    """Runs an app that speaks ``protocol`` and yields its port (by itself any that is free).

    ``http``: answers 200 with JSON ``{service, method, path, headers, body}``; ``GET /status/404``
    answers 404, ``GET /slow/0.2`` after 0.2 s; an ``Upgrade`` is granted and then echoes bytes.
    ``grpc``: every unary method answers the bytes that it was sent. ``tcp``: echoes bytes.
    """
    async with AsyncExitStack() as stack:
        if protocol is Protocol.GRPC:
            yield await stack.enter_async_context(_grpc_echo(port))
        elif protocol is Protocol.HTTP:
            yield await stack.enter_async_context(_serving(HTTPEcho(service).serve, port))
        else:
            yield await stack.enter_async_context(_serving(_echo, port))


@asynccontextmanager
async def _serving(serve: Any, port: int) -> AsyncIterator[int]:
    live: set[asyncio.Task[Any]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        live.add(task)
        try:
            with suppress(ConnectionError, asyncio.CancelledError):
                await serve(reader, writer)
        finally:
            live.discard(task)
            writer.close()

    server = await asyncio.start_server(connected, HOST, port)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in live:
            task.cancel()
        await asyncio.gather(*live, return_exceptions=True)
        await server.wait_closed()


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()


class HTTPEcho:
    """An HTTP/1.1 server that answers with what it was asked (h11 reads and writes it)."""

    def __init__(self, service: str) -> None:
        self._service = service

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, kept alive."""
        connection = h11.Connection(h11.SERVER)
        while True:
            request, body = await self._read(connection, reader)
            if request is None:
                return None
            if any(name == b"upgrade" for name, _ in request.headers):
                await self._upgrade(connection, writer)
                writer.write(connection.trailing_data[0])
                return await _echo(reader, writer)
            for event in await self._answer(request, body):
                writer.write(connection.send(event) or b"")
            await writer.drain()
            if connection.our_state is not h11.DONE:
                return None
            connection.start_next_cycle()

    async def _read(
        self, connection: h11.Connection, reader: asyncio.StreamReader
    ) -> tuple[h11.Request | None, bytes]:
        request: h11.Request | None = None
        body = b""
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data(await reader.read(65_536))
            elif isinstance(event, h11.Request):
                request = event
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage) or event is h11.PAUSED:
                return request, body
            else:
                return None, b""

    async def _answer(self, request: h11.Request, body: bytes) -> list[h11.Event]:
        path = request.target.decode("latin-1")
        status = 200
        if path.startswith("/status/"):
            status = int(path.removeprefix("/status/"))
        if path.startswith("/slow/"):
            await asyncio.sleep(min(float(path.removeprefix("/slow/")), 10))
        content = json.dumps(
            {
                "service": self._service,
                "method": request.method.decode(),
                "path": path,
                "headers": [[k.decode(), v.decode("latin-1")] for k, v in request.headers],
                "body": body.decode("latin-1"),
            }
        ).encode()
        headers = [
            ("content-type", "application/json"),
            ("content-length", str(len(content))),
            ("x-app", self._service),
            ("alt-svc", 'h3=":1"'),
            ("nel", '{"report_to": "me", "max_age": 31536000, "include_subdomains": true}'),
            ("service-worker-allowed", "/"),
        ]
        parts: list[h11.Event] = [h11.Response(status_code=status, headers=headers)]
        if request.method != b"HEAD":
            parts.append(h11.Data(data=content))
        return [*parts, h11.EndOfMessage()]

    async def _upgrade(self, connection: h11.Connection, writer: asyncio.StreamWriter) -> None:
        headers = [("upgrade", "websocket"), ("connection", "upgrade"), ("x-app", self._service)]
        response = h11.InformationalResponse(status_code=101, headers=headers)
        writer.write(connection.send(response) or b"")
        await writer.drain()


class _AnyMethod(grpc.GenericRpcHandler):  # type: ignore[misc, unused-ignore]
    def service(self, handler_call_details: Any) -> Any:
        async def echo(request: bytes, _context: Any) -> bytes:
            return request

        return grpc.unary_unary_rpc_method_handler(echo)


@asynccontextmanager
async def _grpc_echo(port: int) -> AsyncIterator[int]:
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((_AnyMethod(),))
    bound: int = server.add_insecure_port(f"{HOST}:{port}")
    await server.start()
    try:
        yield bound
    finally:
        await server.stop(grace=None)
