"""The examples behind real sidecars: what is declared works through them, and nothing else does."""

import asyncio
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import grpc
import httpx
import pytest
from google.protobuf.struct_pb2 import Struct
from google.protobuf.wrappers_pb2 import StringValue

from bench import certificates
from tests.examples.plain import declaration, ports_of, running_services
from tests.mesh import Mesh, running_mesh
from tests.ports import free_port
from watertight.model.load import load_file
from watertight.model.system import System

pytestmark = pytest.mark.usefixtures("host_loopback")

TRAFFIC_SECONDS = 60


def on_free_ports(system: System, ports: dict[str, int]) -> System:
    """The system on other ports."""
    services = {
        name: replace(
            service, listens=service.listens and replace(service.listens, port=ports[name])
        )
        for name, service in system.services.items()
    }
    gateway = system.gateway and replace(system.gateway, port=free_port())
    return replace(system, services=services, gateway=gateway)


async def run_python(*argv: str | Path) -> tuple[int | None, str]:
    """The status of a Python program and all that it printed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, *argv, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        async with asyncio.timeout(TRAFFIC_SECONDS):
            output, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise
    return process.returncode, output.decode()


@asynccontextmanager
async def sealed(example: str, folder: Path) -> AsyncIterator[Mesh]:
    """A copy of an example, each of whose services reaches the others by its own proxy only."""
    copy = folder / example
    shutil.copytree(
        declaration(example).parent, copy, ignore=shutil.ignore_patterns(".watertight", "jwks.json")
    )
    file = copy / "watertight.yaml"
    keys = {}
    if (copy / "login.py").exists():
        await run_python(copy / "login.py", "prepare")
        keys["main"] = (copy / "jwks.json").read_text()
    ports = ports_of(file)
    system = on_free_ports(load_file(file), ports)
    async with running_mesh(system, keys=keys, project=copy, apps=False) as mesh:

        def where(caller: str) -> dict[str, str]:
            found = {c.target: mesh.address(caller, c.target) for c in mesh.system.outgoing(caller)}
            return {callee: f"{host}:{port}" for callee, (host, port) in found.items()}

        async with running_services(file, folder, ports, where):
            yield mesh


async def ask_stock(mesh: Mesh, line: str) -> str:
    reader, writer = await asyncio.open_connection(*mesh.address("restocker", "stock"))
    writer.write(f"{line}\n".encode())
    answer = (await reader.readline()).decode().strip()
    writer.close()
    await writer.wait_closed()
    return answer


def product(channel: grpc.aio.Channel, method: str) -> grpc.aio.UnaryUnaryMultiCallable:
    return channel.unary_unary(
        f"/shop.Catalogue/{method}",
        request_serializer=StringValue.SerializeToString,
        response_deserializer=Struct.FromString,
    )


async def test_an_order_goes_through_every_sealed_channel(tmp_path: Path) -> None:
    async with sealed("shop", tmp_path) as mesh:
        port = mesh.system.services["storefront"].listens
        assert port is not None
        address = f"http://127.0.0.1:{port.port}"
        async with httpx.AsyncClient(base_url=address, trust_env=False) as browser:
            assert "Teapot, cast iron" in (await browser.get("/")).text
            form = {"sku": "cup", "quantity": "3", "customer": "ada@example.org"}
            placed = await browser.post("/checkout", data=form)
            assert placed.status_code == httpx.codes.SEE_OTHER, placed.text
            status = await browser.get(placed.headers["location"])
            assert "3 × cup, 29.70, paid" in status.text
        assert "to ada@example.org: Order 1" in (tmp_path / "mailer.log").read_text()
        assert (await ask_stock(mesh, "COUNT cup")).startswith("OK ")
        # What the apps would do for anyone, and the channels do not grant.
        assert (
            await mesh.request("storefront", "orders", "DELETE", "/orders/1")
        ).status_code == 403
        assert (await mesh.request("storefront", "orders", "GET", "/orders")).status_code == 403
        assert (await mesh.request("orders", "payments", "POST", "/refunds")).status_code == 403
        host, port_number = mesh.address("storefront", "catalogue")
        async with grpc.aio.insecure_channel(f"{host}:{port_number}") as channel:
            found = await product(channel, "Get")(StringValue(value="cup"))
            assert found["price"] == pytest.approx(9.9)
            with pytest.raises(grpc.aio.AioRpcError) as refusal:
                await product(channel, "SetPrice")(StringValue(value="cup"))
            assert refusal.value.code() is grpc.StatusCode.PERMISSION_DENIED


async def test_unmodified_programs_are_sealed(tmp_path: Path) -> None:
    async with sealed("unmodified", tmp_path) as mesh:
        port = mesh.system.services["front"].listens
        assert port is not None
        address = f"http://127.0.0.1:{port.port}"
        async with httpx.AsyncClient(base_url=address, trust_env=False) as client:
            assert (await client.get("/bin/get", params={"a": "1"})).json()["args"] == {"a": "1"}
            library = await client.get("/library/library/books.json")
            assert library.json()["rows"][0][1] == "The Mythical Man-Month"
            assert (await client.get("/bin/ip")).status_code == httpx.codes.FORBIDDEN
            caller = (await client.get("/bin/headers")).json()["headers"]["X-Forwarded-Client-Cert"]
            assert caller == f"URI={mesh.system.spiffe_id('front')}"


async def test_traffic_through_the_gateway_is_as_declared(tmp_path: Path) -> None:
    async with sealed("shop", tmp_path) as mesh:
        assert mesh.system.gateway is not None
        roots = tmp_path / "roots.pem"
        roots.write_bytes(mesh.authority.bundle().pem())
        gateway = f"127.0.0.1:{mesh.system.gateway.port}"
        traffic = tmp_path / "shop" / "traffic.py"
        status, output = await run_python(
            traffic, "--gateway", gateway, "--ca", roots, "--rounds", "2", "--no-books"
        )
        assert status == 0, output
        assert "18 requests, 0 wrong" in output

        # It says no as well: with nobody behind the gateway's route, and by another authority.
        await mesh.envoys["orders"].stop()
        status, output = await run_python(
            traffic, "--gateway", gateway, "--ca", roots, "--rounds", "1", "--no-books"
        )
        assert status == 1
        assert "(expected 201)" in output
        foreign = certificates.make(tmp_path).authority
        status, output = await run_python(traffic, "--gateway", gateway, "--ca", foreign)
        assert status == 1
        assert "CERTIFICATE_VERIFY_FAILED" in output
