"""Asks one process once whether it is ready."""

import asyncio

from watertight.runtime.pod_client import Pod
from watertight.runtime.pod_spec import AdminReady, HTTPReady, PortReady, Readiness

NOTHING_ACCEPTS = "nothing accepts on its port"
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
        return NOTHING_ACCEPTS
    except (OSError, TimeoutError, ValueError) as error:  # a line without end is a ValueError
        return str(error) or type(error).__name__
    return ""


async def _admin(readiness: AdminReady) -> str:
    reader, writer = await asyncio.open_unix_connection(readiness.socket)
    status = await _status(reader, writer, "envoy", "/ready")
    return "" if status[:1] == ["200"] else f"its proxy answers {' '.join(status) or 'nothing'}"


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
    host = f"127.0.0.1:{readiness.port}"
    status = await _status(reader, writer, host, readiness.path)
    if status and status[0].startswith("2"):
        return ""
    return f"{readiness.path} answers {' '.join(status) or 'nothing'}"


async def _status(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, path: str
) -> list[str]:
    """The words of the answer's status line after the version; then hangs up."""
    try:
        writer.write(
            f"GET {path} HTTP/1.1\r\nHost: {host}\r\n"
            "User-Agent: watertight\r\nConnection: close\r\n\r\n".encode("ascii")
        )
        line = await reader.readline()
    finally:
        writer.close()
    return line.decode(errors="replace").split()[1:]
