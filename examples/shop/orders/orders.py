"""The shop's orders: `POST /orders`, `GET /orders/{id}`, `GET /orders`, `DELETE /orders/{id}`.

Placing one asks the catalogue for the price (gRPC), the stock for the goods (TCP lines), payments
for the money (HTTP) and the mailer for a confirmation (HTTP), and tells everybody who listens to
the events of the shop (NATS JetStream), and the packer (RabbitMQ), where there are any.
"""

import asyncio
import contextlib
import json
import os
import sqlite3
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import aio_pika
import grpc
import httpx
from google.protobuf.struct_pb2 import Struct
from google.protobuf.wrappers_pb2 import StringValue
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

import watertight

CATALOGUE = urlsplit(os.environ.get("CATALOGUE_URL", "http://catalogue:8082"))
PAYMENTS = os.environ.get("PAYMENTS_URL", "http://payments:8083")
MAILER = os.environ.get("MAILER_URL", "http://mailer:8084")
STOCK = urlsplit(os.environ.get("STOCK_URL", "tcp://stock:8085"))
UNDER_WATERTIGHT = "WATERTIGHT_CHANNELS" in os.environ
MOST = 100

database = sqlite3.connect(":memory:")
database.row_factory = sqlite3.Row
database.execute(
    "create table orders (id integer primary key, sku text, quantity integer, total real,"
    " customer text, charge text)"
)


def opened(name: str) -> contextlib.AbstractAsyncContextManager[Any]:
    """The channel to ``name``, if there is one."""
    if UNDER_WATERTIGHT and f"{name.upper()}_URL" in os.environ:
        return watertight.channel(name)
    return contextlib.nullcontext()


@contextlib.asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    async with (
        httpx.AsyncClient() as http,
        grpc.aio.insecure_channel(CATALOGUE.netloc) as channel,
        opened("events") as app.state.events,
        opened("jobs") as app.state.jobs,
    ):
        app.state.http = http
        app.state.product = channel.unary_unary(
            "/shop.Catalogue/Get",
            request_serializer=StringValue.SerializeToString,
            response_deserializer=Struct.FromString,
        )
        yield


async def price_of(request: Request, sku: str) -> float:
    try:
        product = await request.app.state.product(StringValue(value=sku), wait_for_ready=True)
    except grpc.aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.NOT_FOUND:
            raise HTTPException(404, error.details()) from error
        raise HTTPException(503, f"the catalogue answers {error.code().name}") from error
    return float(product["price"])


async def reserve(sku: str, quantity: int) -> None:
    reader, writer = await asyncio.open_connection(STOCK.hostname, STOCK.port)
    try:
        writer.write(f"RESERVE {sku} {quantity}\n".encode())
        answer = (await reader.readline()).decode().strip()
    finally:
        writer.close()
        await writer.wait_closed()
    if not answer:
        raise HTTPException(503, "the stock does not answer")
    if not answer.startswith("OK"):
        raise HTTPException(409, f"the stock says {answer}")


async def place(request: Request) -> Response:
    try:
        wanted = await request.json()
        sku, quantity = str(wanted["sku"]), int(wanted.get("quantity", 1))
        customer = str(wanted["customer"])
    except (ValueError, KeyError, TypeError) as error:
        raise HTTPException(400, "an order is {sku, quantity, customer}") from error
    if not 1 <= quantity <= MOST:
        raise HTTPException(400, f"the quantity is 1 to {MOST}")
    total = round(quantity * await price_of(request, sku), 2)
    await reserve(sku, quantity)
    http: httpx.AsyncClient = request.app.state.http
    charge = await http.post(f"{PAYMENTS}/charges", json={"amount": total, "customer": customer})
    if charge.status_code != httpx.codes.CREATED:
        raise HTTPException(502, f"payments answers {charge.status_code}")
    cursor = database.execute(
        "insert into orders (sku, quantity, total, customer, charge) values (?, ?, ?, ?, ?)",
        (sku, quantity, total, customer, charge.json()["id"]),
    )
    await tell(
        request, {"order": charge.json()["id"], "sku": sku, "quantity": quantity, "total": total}
    )
    text = f"Order {cursor.lastrowid}: {quantity} × {sku}, {total:.2f}"
    mail = await http.post(f"{MAILER}/messages", json={"to": customer, "text": text})
    found = read(cursor.lastrowid) | {"confirmed": mail.status_code == httpx.codes.ACCEPTED}
    return JSONResponse(found, 201, headers={"location": f"/orders/{cursor.lastrowid}"})


async def tell(request: Request, sale: dict[str, object]) -> None:
    """Once the stream and the queue have it, it is told."""
    state, body = request.app.state, json.dumps(sale).encode()
    if state.events is not None:
        await state.events.jetstream().publish("orders.placed", body)
    if state.jobs is not None:
        async with state.jobs.channel() as channel:
            exchange = await channel.get_exchange("to.parcels", ensure=False)
            await exchange.publish(aio_pika.Message(body), "parcels")


def read(number: int | None) -> dict[str, object]:
    row = database.execute("select * from orders where id = ?", (number,)).fetchone()
    if row is None:
        raise HTTPException(404, f"no order {number}")
    return dict(row)


async def one(request: Request) -> Response:
    number = request.path_params["number"]
    if request.method == "DELETE":
        read(number)
        database.execute("delete from orders where id = ?", (number,))
        return Response(status_code=204)
    return JSONResponse(read(number))


async def newest(_request: Request) -> Response:
    rows = database.execute("select * from orders order by id desc limit 20").fetchall()
    return JSONResponse([dict(row) for row in rows])


async def ready(_request: Request) -> Response:
    return JSONResponse({"ready": True})


async def wrong(_request: Request, error: HTTPException) -> Response:
    return JSONResponse({"error": error.detail}, error.status_code)


app = Starlette(
    routes=[
        Route("/healthz", ready),
        Route("/orders", place, methods=["POST"]),
        Route("/orders", newest),
        Route("/orders/{number:int}", one, methods=["GET", "DELETE"]),
    ],
    exception_handlers={HTTPException: wrong},
    lifespan=lifespan,
)
