"""The test mesh itself: that it runs, that it refuses, that it cleans up after itself."""

from pathlib import Path

from tests.mesh import running_mesh
from watertight.model.system import Channel, HTTPGrant, Listen, Protocol, Service, System

SHOP = System(
    "shop.internal",
    {
        "storefront": Service("storefront"),
        "orders": Service("orders", listens=Listen(Protocol.HTTP, 1)),
    },
    channels=(Channel("storefront", "orders", (HTTPGrant("GET", "/orders/*"),)),),
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
