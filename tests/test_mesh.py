"""The test mesh itself: that it runs, that it refuses, that it cleans up after itself."""

import asyncio
from dataclasses import replace
from pathlib import Path

import grpc
import pytest

from tests.mesh import running_mesh
from watertight.dataplane.resources import EnvoyPlan
from watertight.model.system import (
    Channel,
    Gateway,
    HTTPGrant,
    Listen,
    Protocol,
    Route,
    RPCGrant,
    Service,
    System,
)

SHOP = System(
    "shop.internal",
    {
        "storefront": Service("storefront"),
        "orders": Service("orders", listens=Listen(Protocol.HTTP, 1)),
    },
    channels=(Channel("storefront", "orders", (HTTPGrant("GET", "/orders/*"),)),),
)


SEALED = replace(
    SHOP,
    gateway=Gateway(
        "shop.example", (Route("/api/orders/*", "orders", rewrite="/orders/*"),), port=1
    ),
)
TCP = System(
    "shop.internal",
    {
        "orders": Service("orders"),
        "stock": Service("stock", listens=Listen(Protocol.TCP, 1)),
        "catalogue": Service("catalogue", listens=Listen(Protocol.GRPC, 1)),
    },
    channels=(
        Channel("orders", "stock"),
        Channel("orders", "catalogue", (RPCGrant("shop.Catalogue", "Get"),)),
    ),
)


def left_over(pids: list[int], directory: Path) -> list[Path]:
    paths = [directory, *(Path(f"/proc/{pid}") for pid in pids)]
    return [path for path in paths if path.exists()]


async def test_a_declared_use_is_served_and_another_is_not() -> None:
    async with running_mesh(SHOP) as mesh:
        served = await mesh.request("storefront", "orders", "GET", "/orders/1")
        assert (served.status_code, served.json()["service"]) == (200, "orders")
        refused = await mesh.request("storefront", "orders", "POST", "/orders/1")
        assert refused.status_code == 403


async def test_the_outside_comes_in_by_the_gateway() -> None:
    async with running_mesh(SEALED) as mesh:
        served = await mesh.outside("GET", "/api/orders/1")
        assert (served.status_code, served.json()["path"]) == (200, "/orders/1")
        assert (await mesh.outside("GET", "/orders/1")).status_code == 404


async def test_tcp_and_grpc_apps_answer() -> None:
    async with running_mesh(TCP) as mesh:
        reader, writer = await asyncio.open_connection(*mesh.address("orders", "stock"))
        writer.write(b"how many?")
        assert await reader.readexactly(9) == b"how many?"
        writer.close()
        host, port = mesh.address("orders", "catalogue")
        authority = f"catalogue:{mesh.system.services['catalogue'].listens.port}"  # type: ignore[union-attr]
        options = [("grpc.default_authority", authority)]
        async with grpc.aio.insecure_channel(f"{host}:{port}", options) as channel:
            assert await channel.unary_unary("/shop.Catalogue/Get")(b"tea") == b"tea"
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await channel.unary_unary("/shop.Catalogue/Delete")(b"tea")
            assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED


async def test_sabotage_bites_and_is_undone() -> None:
    def allow_all(plan: EnvoyPlan) -> EnvoyPlan:
        wider = replace(SHOP.channels[0], grants=())
        return mesh.compile(replace(mesh.system, channels=(wider,)))

    async with running_mesh(SHOP) as mesh:
        async with mesh.sabotage(allow_all):
            response = await mesh.request("storefront", "orders", "POST", "/anything")
            assert response.status_code == 200
        response = await mesh.request("storefront", "orders", "POST", "/anything")
        assert response.status_code == 403


async def test_services_come_and_go() -> None:
    async with running_mesh(SHOP) as mesh:
        without = replace(mesh.system, services={"orders": mesh.system.services["orders"]})
        pid = mesh.envoys["storefront"].pid
        await mesh.push(mesh.compile(replace(without, channels=())))
        assert not left_over([pid], Path("/nowhere"))
        await mesh.push(mesh.compile())
        response = await mesh.request("storefront", "orders", "GET", "/orders/1")
        assert response.status_code == 200


async def test_a_failure_leaves_no_process_and_no_file() -> None:
    pids: list[int] = []
    directory = Path()
    try:
        async with running_mesh(SHOP) as mesh:
            pids = [envoy.pid for envoy in mesh.envoys.values()]
            directory = mesh.placement.run_directory
            raise LookupError
    except LookupError:
        pass
    assert len(pids) == 2
    assert not left_over(pids, directory)
