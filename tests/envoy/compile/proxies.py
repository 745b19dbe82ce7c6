"""Real Envoys run from the static rendition of a plan, and a real app behind them."""

import asyncio
import json
import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import h2.config
import h2.connection
import h2.events
import httpx

from tests.envoy.compile.pki import Authority, Pair
from watertight.enforcers.contract import Placement
from watertight.enforcers.envoy.binary import envoy_binary
from watertight.enforcers.envoy.compile import compile_envoy
from watertight.enforcers.envoy.resources import EnvoyPlan, ProxyPlan
from watertight.enforcers.envoy.validate import render
from watertight.model.system import GATEWAY, System

DEADLINE_SECONDS = 20.0


def free_port() -> int:
    """A TCP port that nobody has now on loopback."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Mesh:
    """The proxies of one system and what a test needs to talk to them."""

    def __init__(self, system: System, placement: Placement, authority: Authority) -> None:
        self.system = system
        self.placement = placement
        self.authority = authority

    async def door(
        self, callee: str, caller: str, pair: Pair | None, headers: Mapping[str, str]
    ) -> str:
        """One HTTP/2 request straight at a door; answers its status, or ``cut``."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.load_verify_locations(cadata=self.authority.root_pem().decode())
        context.set_alpn_protocols(["h2"])
        if pair is not None:
            context.load_cert_chain(*pair.save(self.placement.run_directory, "attacker"))
        path = str(self.placement.door(callee, caller))
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                reader, writer = await asyncio.open_unix_connection(
                    path, ssl=context, server_hostname=callee
                )
                return await _request(reader, writer, headers)
        except (ssl.SSLError, ConnectionError):
            return "cut"


async def _request(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, headers: Mapping[str, str]
) -> str:
    connection = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
    connection.initiate_connection()
    connection.send_headers(1, list(headers.items()), end_stream=headers[":method"] != "CONNECT")
    writer.write(connection.data_to_send())
    try:
        while data := await reader.read(65_536):
            for event in connection.receive_data(data):
                if isinstance(event, h2.events.ResponseReceived):
                    return str(dict(event.headers)[":status"])
        return "cut"
    finally:
        writer.transport.abort()


@asynccontextmanager
async def running(
    system: System,
    placement: Placement,
    *,
    authority: Authority | None = None,
    keys: Mapping[str, str] | None = None,
) -> AsyncIterator[Mesh]:
    """Runs one Envoy a workload until the block ends."""
    authority = authority or Authority()
    plan = compile_envoy(system, placement, keys or {})
    async with AsyncExitStack() as stack:
        for workload, proxy in plan.proxies.items():
            pair = authority.issue(system.spiffe_id(workload), dns=(workload,))
            https = _https(system, authority) if workload == GATEWAY else None
            secrets = authority.secrets(system.trust_domain, pair, https)
            await stack.enter_async_context(_envoy(proxy, placement, secrets))
        for workload in plan.proxies:
            await _live(placement.admin_socket(workload))
        yield Mesh(system, placement, authority)


def _https(system: System, authority: Authority) -> Pair:
    assert system.gateway is not None
    return authority.issue(dns=(system.gateway.hostname,))


@asynccontextmanager
async def _envoy(
    plan: ProxyPlan, placement: Placement, secrets: Mapping[str, Mapping[str, Any]]
) -> AsyncIterator[None]:
    placement.proxy_directory(plan.workload).mkdir(parents=True)
    placement.door_directory(plan.workload).mkdir(parents=True)
    config = placement.proxy_directory(plan.workload) / "static.json"
    config.touch(mode=0o600)
    config.write_text(json.dumps(render(plan, secrets)))
    log = (placement.proxy_directory(plan.workload) / "log").open("wb")
    process = await asyncio.create_subprocess_exec(
        envoy_binary(),
        *("-c", config, "--disable-hot-restart", "--drain-time-s", "0"),
        *("--concurrency", "1", "-l", "warning"),
        stdout=log,
        stderr=log,
    )
    try:
        yield
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        log.close()


async def _live(admin: Path) -> None:
    """Waits until the proxy behind this admin socket serves."""
    transport = httpx.AsyncHTTPTransport(uds=str(admin))
    async with (
        asyncio.timeout(DEADLINE_SECONDS),
        httpx.AsyncClient(transport=transport, base_url="http://admin") as client,
    ):
        while True:
            try:
                if (await client.get("/ready")).status_code == httpx.codes.OK:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.02)


@asynccontextmanager
async def echo(port: int) -> AsyncIterator[None]:
    """An HTTP/1.1 app on loopback that answers with what it was asked, as JSON."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                request, *lines = head.decode().split("\r\n")
                method, path, _ = request.split(" ")
                headers = {k.lower(): v.strip() for k, _, v in (ln.partition(":") for ln in lines)}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                seen = {"method": method, "path": path, "headers": headers, "bytes": len(body)}
                answer = json.dumps(seen).encode()
                writer.write(b"HTTP/1.1 200 OK\r\nserver: echo\r\ncontent-length: ")
                writer.write(f"{len(answer)}\r\n\r\n".encode() + answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", port)
    try:
        yield
    finally:
        server.close()


__all__ = ["EnvoyPlan", "Mesh", "echo", "free_port", "running"]
