"""The shop's services are ordinary programs: they work on plain loopback, without Watertight."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import httpx
import pytest
from google.protobuf.struct_pb2 import Struct
from google.protobuf.wrappers_pb2 import StringValue

from tests.examples.plain import declaration, running_plainly


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shop")


@pytest.fixture
async def shop(logs: Path) -> AsyncIterator[dict[str, int]]:
    async with running_plainly(declaration("shop"), logs) as ports:
        yield ports


async def ask_stock(port: int, line: str) -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"{line}\n".encode())
    answer = (await reader.readline()).decode().strip()
    writer.close()
    await writer.wait_closed()
    return answer


async def test_an_order_goes_through_every_service(shop: dict[str, int], logs: Path) -> None:
    assert await ask_stock(shop["stock"], "COUNT cup") == "OK 5000"
    async with httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{shop['storefront']}", trust_env=False
    ) as browser:
        window = await browser.get("/")
        assert "Teapot, cast iron" in window.text
        assert "54.50" in (await browser.get("/products/teapot")).text
        form = {"sku": "cup", "quantity": "3", "customer": "ada@example.org"}
        placed = await browser.post("/checkout", data=form)
        assert placed.status_code == httpx.codes.SEE_OTHER, placed.text
        status = await browser.get(placed.headers["location"])
        assert "3 × cup, 29.70, paid" in status.text
    assert await ask_stock(shop["stock"], "COUNT cup") == "OK 4997"
    assert "to ada@example.org: Order 1: 3 × cup, 29.70" in (logs / "mailer.log").read_text()
    async with httpx.AsyncClient(trust_env=False) as program:
        orders = f"http://127.0.0.1:{shop['orders']}/orders"
        order = (await program.get(f"{orders}/1")).json()
        charge = f"http://127.0.0.1:{shop['payments']}/charges/{order['charge']}"
        assert (await program.get(charge)).json()["amount"] == pytest.approx(29.7)
        # What the channels do not grant, the apps themselves would do for anyone.
        assert (await program.delete(f"{orders}/1")).status_code == httpx.codes.NO_CONTENT
        assert (await program.get(f"{orders}/1")).status_code == httpx.codes.NOT_FOUND


async def test_what_the_apps_refuse_by_themselves(shop: dict[str, int]) -> None:
    async with httpx.AsyncClient(trust_env=False) as program:
        orders = f"http://127.0.0.1:{shop['orders']}/orders"
        wrong = await program.post(orders, json={"sku": "cup"})
        assert (wrong.status_code, wrong.json()["error"]) == (
            400,
            "an order is {sku, quantity, customer}",
        )
        unknown = {"sku": "yacht", "customer": "x"}
        assert (await program.post(orders, json=unknown)).status_code == httpx.codes.NOT_FOUND
    async with grpc.aio.insecure_channel(f"127.0.0.1:{shop['catalogue']}") as channel:
        get = channel.unary_unary(
            "/shop.Catalogue/Get",
            request_serializer=StringValue.SerializeToString,
            response_deserializer=Struct.FromString,
        )
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await get(StringValue(value="yacht"))
        assert refusal.value.code() is grpc.StatusCode.NOT_FOUND
    assert await ask_stock(shop["stock"], "RESERVE kettle 501") == "SHORT 500"
    assert await ask_stock(shop["stock"], "DELETE everything") == "WHAT"
