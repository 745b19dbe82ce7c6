"""The shop window, in HTML: what there is, a form to order it, and how an order stands."""

import contextlib
import os
from collections.abc import AsyncIterator
from html import escape
from urllib.parse import parse_qs, urlsplit

import grpc
import httpx
from google.protobuf.empty_pb2 import Empty
from google.protobuf.struct_pb2 import Struct
from google.protobuf.wrappers_pb2 import StringValue
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

ORDERS = os.environ.get("ORDERS_URL", "http://orders:8081")
CATALOGUE = urlsplit(os.environ.get("CATALOGUE_URL", "http://catalogue:8082"))


@contextlib.asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    async with httpx.AsyncClient() as http, grpc.aio.insecure_channel(CATALOGUE.netloc) as channel:
        app.state.http = http
        app.state.list = channel.unary_unary(
            "/shop.Catalogue/List",
            request_serializer=Empty.SerializeToString,
            response_deserializer=Struct.FromString,
        )
        app.state.get = channel.unary_unary(
            "/shop.Catalogue/Get",
            request_serializer=StringValue.SerializeToString,
            response_deserializer=Struct.FromString,
        )
        yield


def page(title: str, body: str, status: int = 200) -> Response:
    head = f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(title)}</title>"
    return HTMLResponse(f"{head}<h1>{escape(title)}</h1>{body}</html>", status)


async def home(request: Request) -> Response:
    try:
        listed = await request.app.state.list(Empty(), wait_for_ready=True)
    except grpc.aio.AioRpcError as error:
        raise HTTPException(503, f"the catalogue answers {error.code().name}") from error
    items = "".join(
        f'<li><a href="/products/{escape(p["sku"])}">{escape(p["name"])}</a> {p["price"]:.2f}</li>'
        for p in listed["products"]
    )
    return page("The shop", f"<ul>{items}</ul>")


async def product(request: Request) -> Response:
    sku = request.path_params["sku"]
    try:
        found = await request.app.state.get(StringValue(value=sku), wait_for_ready=True)
    except grpc.aio.AioRpcError as error:
        missing = error.code() is grpc.StatusCode.NOT_FOUND
        raise HTTPException(404 if missing else 503, error.details()) from error
    form = (
        f'<form method=post action=/checkout><input type=hidden name=sku value="{escape(sku)}">'
        "<input name=quantity value=1><input name=customer placeholder=email><button>Order</button>"
        "</form>"
    )
    return page(found["name"], f"<p>{found['price']:.2f}</p>{form}")


async def checkout(request: Request) -> Response:
    form = {name: values[0] for name, values in parse_qs((await request.body()).decode()).items()}
    answer = await request.app.state.http.post(f"{ORDERS}/orders", json=form)
    if answer.status_code != httpx.codes.CREATED:
        raise HTTPException(answer.status_code, f"orders answers {answer.status_code}")
    return RedirectResponse(f"/status/{answer.json()['id']}", 303)


async def status(request: Request) -> Response:
    answer = await request.app.state.http.get(f"{ORDERS}/orders/{request.path_params['number']}")
    if answer.status_code != httpx.codes.OK:
        raise HTTPException(answer.status_code, f"orders answers {answer.status_code}")
    order = answer.json()
    body = f"<p>{order['quantity']} × {escape(order['sku'])}, {order['total']:.2f}, paid</p>"
    return page(f"Order {order['id']}", body)


async def ready(_request: Request) -> Response:
    return PlainTextResponse("ready\n")


async def wrong(_request: Request, error: HTTPException) -> Response:
    return page(f"Sorry: {error.status_code}", f"<p>{escape(error.detail)}</p>", error.status_code)


app = Starlette(
    routes=[
        Route("/", home),
        Route("/healthz", ready),
        Route("/products/{sku}", product),
        Route("/checkout", checkout, methods=["POST"]),
        Route("/status/{number:int}", status),
    ],
    exception_handlers={HTTPException: wrong},
    lifespan=lifespan,
)
