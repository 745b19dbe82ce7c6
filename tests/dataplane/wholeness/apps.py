"""Servers that answer, and end, in every way in which a real one may."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import grpc

HOST = "127.0.0.1"
CHUNK = b"0123456789abcdef" * 4096
GREETING = b"hello, who is there?\n"
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(serve: Serve) -> AsyncIterator[int]:
    """A server on a free port, which it yields."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await serve(reader, writer)
        writer.close()

    server = await asyncio.start_server(connected, HOST, 0, limit=1 << 20)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def send(writer: asyncio.StreamWriter, size: int) -> None:
    """So many bytes, as fast as the other end takes them."""
    while size > 0:
        writer.write(CHUNK[:size])
        size -= len(CHUNK)
        await writer.drain()


async def http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """HTTP/1.1: the path says what is answered, and how it ends."""
    while True:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        what, _, number = head.split(" ")[1].strip("/").partition("/")
        size = int(number or 0)
        last = "connection: close" in head.lower()
        if what == "ws":
            return await _upgraded(reader, writer, size)
        if what == "no-ws":
            return await _not_upgraded(writer, size, head)
        if what == "silent":
            await reader.read(-1)
            return None
        if what == "early":
            return await _early(reader, writer)
        body, trailers = await _body(reader, head)
        await _answer(writer, what, size, body, trailers)
        if last or what in {"unsized", "broken-sized", "broken-chunked"}:
            return None


async def _answer(
    writer: asyncio.StreamWriter, what: str, size: int, body: int, trailers: str
) -> None:
    if what == "sized":
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size)
        await send(writer, size)
    elif what == "unsized":
        writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n")
        await send(writer, size)
    elif what == "chunked":
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n")
        for sent in range(0, size, len(CHUNK)):
            part = CHUNK[: size - sent]
            writer.write(b"%x\r\n%b\r\n" % (len(part), part))
            await writer.drain()
        writer.write(b"0\r\nx-sum: 42\r\n\r\n")
    elif what == "no-content":
        writer.write(b"HTTP/1.1 204 No Content\r\ncontent-length: %d\r\n\r\n" % size)
    elif what == "broken-sized":  # its program fails half way
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size)
        await send(writer, size // 2)
    elif what == "broken-chunked":
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n%x\r\na" % size)
    elif what == "events":
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n")
        writer.write(b"transfer-encoding: chunked\r\n\r\n")
        for number in range(size):
            event = b"data: %d\n\n" % number
            writer.write(b"%x\r\n%b\r\n" % (len(event), event))
            await writer.drain()
            await asyncio.sleep(0.02)
        writer.write(b"0\r\n\r\n")
    else:
        text = f"{body} {trailers}".encode()
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(text), text))
    await writer.drain()


async def _body(reader: asyncio.StreamReader, head: str) -> tuple[int, str]:
    """How many bytes the request's body has, and its trailers."""
    if length := re.search(r"(?i)\r\ncontent-length: *(\d+)", head):
        left = int(length[1])
        while left:
            left -= len(await reader.readexactly(min(left, 65_536)))
        return int(length[1]), ""
    if not re.search(r"(?i)\r\ntransfer-encoding: *chunked", head):
        return 0, ""
    total = 0
    while size := int(await reader.readuntil(b"\r\n"), 16):
        await reader.readexactly(size + 2)
        total += size
    trailers = ""
    while (line := await reader.readuntil(b"\r\n")) != b"\r\n":
        trailers += line.decode("latin-1").strip() + ";"
    return total, trailers


async def _early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers before it has read the body, which it then lets come, as a server should."""
    writer.write(b"HTTP/1.1 413 No\r\ncontent-length: 8\r\nconnection: close\r\n\r\ntoo much")
    await writer.drain()
    while await reader.read(65_536):
        pass


async def _upgraded(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, size: int) -> None:
    """Sends so many bytes and ends; or, for none, echoes."""
    writer.write(b"HTTP/1.1 101 Go\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
    await send(writer, size)
    while not size and (data := await reader.read(65_536)):
        writer.write(data)
        await writer.drain()


async def _not_upgraded(writer: asyncio.StreamWriter, status: int, head: str) -> None:
    """Answers with this status, and for a body what was asked for, 100 kB of it, and more."""
    asked = re.findall(r"(?i)\r\n(?:upgrade|connection): *([^\r]+)", head)
    body = f"{sorted(asked)}\n".encode() + CHUNK + CHUNK
    writer.write(
        b"HTTP/1.1 %d No\r\nx-watertight-status: 418\r\nlocation: /elsewhere\r\nset-cookie: a=b\r\n"
        % status
    )
    if status in {204, 304}:
        writer.write(b"\r\n")
    elif status == 426:
        writer.write(b"connection: upgrade\r\nupgrade: websocket\r\ncontent-type: text/x\r\n")
        writer.write(b"content-length: %d\r\n\r\n%b" % (len(body), body))
    elif status % 2:  # framed by its end
        writer.write(b"connection: close\r\ncontent-type: text/x\r\n\r\n" + body)
    else:
        writer.write(b"content-type: text/x\r\ntransfer-encoding: chunked\r\n\r\n")
        writer.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))
    await writer.drain()


async def tcp(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Bytes: the first line says what is done."""
    what, _, number = (await reader.readuntil(b"\n")).decode().strip().partition(" ")
    size = int(number or 0)
    if what == "send":  # and end first
        await send(writer, size)
    elif what == "count":  # until the client's end, then answer
        writer.write(f"{await _to_the_end(reader)}".encode())
        await send(writer, size)
    elif what == "half":  # end our own half first, and hear the client to its end
        await send(writer, size)
        writer.write_eof()
        HEARD.append(await _to_the_end(reader))


async def _to_the_end(reader: asyncio.StreamReader) -> int:
    total = 0
    while data := await reader.read(65_536):
        total += len(data)
    return total


HEARD: list[int] = []
"""What ``half`` heard after it had ended its own half."""


async def greeter(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Speaks first, as servers of mail do."""
    writer.write(GREETING)
    writer.write(await reader.readuntil(b"\n"))
    await writer.drain()


class Rpc(grpc.GenericRpcHandler):  # type: ignore[misc, unused-ignore]
    """gRPC of every kind; the method's name says which."""

    def service(self, handler_call_details: Any) -> Any:
        """The handler of one method."""
        name = handler_call_details.method.rpartition("/")[2]
        return {
            "Unary": grpc.unary_unary_rpc_method_handler(self._unary),
            "Told": grpc.unary_unary_rpc_method_handler(self._told),
            "Large": grpc.unary_unary_rpc_method_handler(self._large),
            "Left": grpc.unary_unary_rpc_method_handler(self._left),
            "Down": grpc.unary_stream_rpc_method_handler(self._down),
            "Up": grpc.stream_unary_rpc_method_handler(self._up),
            "Both": grpc.stream_stream_rpc_method_handler(self._both),
            "Ends": grpc.stream_stream_rpc_method_handler(self._ends),
        }.get(name)

    async def _unary(self, request: bytes, context: Any) -> bytes:
        context.set_trailing_metadata((("x-sum", "42"),))
        return request

    async def _told(self, _request: bytes, context: Any) -> bytes:
        """The call's metadata, as JSON."""
        told = [(key, value) for key, value in context.invocation_metadata() if "-bin" not in key]
        return json.dumps(told).encode()

    async def _large(self, request: bytes, context: Any) -> bytes:
        """``where count size`` asks for so many fields of so many bytes before or after a message.

        Of ``~``, which HPACK's Huffman code makes no shorter.
        """
        where, count, size = request.split()
        fields = [(f"x-large-{number}", "~" * int(size)) for number in range(int(count))]
        if where == b"before":
            await context.send_initial_metadata(fields)
        else:
            context.set_trailing_metadata(fields)
        return b"whole"

    async def _left(self, _request: bytes, context: Any) -> bytes:
        """How many seconds the client still waits, as the server is told."""
        return f"{context.time_remaining()}".encode()

    async def _down(self, request: bytes, _context: Any) -> AsyncIterator[bytes]:
        for _ in range(int(request)):
            yield CHUNK

    async def _up(self, requests: AsyncIterator[bytes], _context: Any) -> bytes:
        return str(sum([len(request) async for request in requests])).encode()

    async def _both(self, requests: AsyncIterator[bytes], _context: Any) -> AsyncIterator[bytes]:
        async for request in requests:
            yield request

    async def _ends(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        """Ends after the first message, though the client would go on."""
        yield await anext(requests)
        await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "enough")


@asynccontextmanager
async def rpc(most_bytes: int) -> AsyncIterator[int]:
    """A gRPC server on a free port, which it yields."""
    limits = [(f"grpc.max_{way}_message_length", most_bytes) for way in ("send", "receive")]
    server = grpc.aio.server(options=limits)
    server.add_generic_rpc_handlers((Rpc(),))
    port: int = server.add_insecure_port(f"{HOST}:0")
    await server.start()
    try:
        yield port
    finally:
        await server.stop(grace=None)
