"""Asks one process once whether it is ready."""

import asyncio

import httpx

from watertight.runtime.client import Pod
from watertight.runtime.spec import AdminReady, HTTPReady, PortReady, Readiness
from watertight.unix_http import async_transport

_TRY_SECONDS = 2.0


async def ready_once(pod: Pod, readiness: Readiness) -> str:
    """Empty if it is ready; else what was seen instead, in words."""
    try:
        async with asyncio.timeout(_TRY_SECONDS):
            if isinstance(readiness, AdminReady):
                return await _admin(readiness)
            if isinstance(readiness, PortReady):
                await _connect(pod, readiness.port)
            elif isinstance(readiness, HTTPReady):
                return await _http(pod, readiness)
    except ConnectionRefusedError:
        return "nothing accepts on its port"
    except (OSError, TimeoutError, httpx.HTTPError) as error:
        return str(error) or type(error).__name__
    return ""


async def _admin(readiness: AdminReady) -> str:
    transport = async_transport(readiness.socket)
    async with httpx.AsyncClient(transport=transport, timeout=_TRY_SECONDS) as client:
        answer = await client.get("http://envoy/ready")
    return "" if answer.status_code == 200 else f"its proxy is {answer.text.strip()}"


async def _connect(pod: Pod, port: int) -> None:
    with await pod.tcp_socket() as connection:
        loop = asyncio.get_running_loop()
        await loop.sock_connect(connection, ("127.0.0.1", port))


async def _http(pod: Pod, readiness: HTTPReady) -> str:
    connection = await pod.tcp_socket()
    try:
        loop = asyncio.get_running_loop()
        await loop.sock_connect(connection, ("127.0.0.1", readiness.port))
        reader, writer = await asyncio.open_connection(sock=connection)
    except BaseException:
        connection.close()
        raise
    try:
        writer.write(
            f"GET {readiness.path} HTTP/1.1\r\nHost: 127.0.0.1:{readiness.port}\r\n"
            "User-Agent: watertight\r\nConnection: close\r\n\r\n".encode("ascii")
        )
        status = (await reader.readline()).split()
    finally:
        writer.close()
    if len(status) > 1 and status[1].startswith(b"2"):
        return ""
    return f"{readiness.path} answers {b' '.join(status[1:]).decode(errors='replace') or 'nothing'}"
