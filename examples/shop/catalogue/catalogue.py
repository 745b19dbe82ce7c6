"""What the shop sells, over gRPC: `shop.Catalogue`.

    rpc Get(google.protobuf.StringValue) returns (google.protobuf.Struct)   one product by its SKU
    rpc List(google.protobuf.Empty) returns (google.protobuf.Struct)        {"products": [...]}
    rpc SetPrice(google.protobuf.Struct) returns (google.protobuf.Struct)   {"sku": ..., "price"}

The messages are protobuf's well-known types, so that the example needs no generated code.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct
from google.protobuf.wrappers_pb2 import StringValue

PRODUCTS: dict[str, dict[str, Any]] = {
    "kettle": {"sku": "kettle", "name": "Kettle, 1.7 l", "price": 39.0},
    "teapot": {"sku": "teapot", "name": "Teapot, cast iron", "price": 54.5},
    "cup": {"sku": "cup", "name": "Cup, stoneware", "price": 9.9},
}


def struct(value: dict[str, Any]) -> Struct:
    message = Struct()
    message.update(value)
    return message


async def get(request: StringValue, context: grpc.aio.ServicerContext) -> Struct:
    product = PRODUCTS.get(request.value)
    if product is None:
        await context.abort(grpc.StatusCode.NOT_FOUND, f"no product {request.value!r}")
    return struct(product)


async def list_(_request: Empty, _context: grpc.aio.ServicerContext) -> Struct:
    return struct({"products": list(PRODUCTS.values())})


async def set_price(request: Struct, context: grpc.aio.ServicerContext) -> Struct:
    product = PRODUCTS.get(request["sku"])
    if product is None:
        await context.abort(grpc.StatusCode.NOT_FOUND, f"no product {request['sku']!r}")
    product["price"] = float(request["price"])
    return struct(product)


def unary(
    handler: Callable[[Any, grpc.aio.ServicerContext], Awaitable[Message]],
    request_type: type[Message],
) -> grpc.RpcMethodHandler:
    return grpc.unary_unary_rpc_method_handler(
        handler,
        request_deserializer=request_type.FromString,
        response_serializer=lambda message: message.SerializeToString(),
    )


async def serve(port: int) -> None:
    server = grpc.aio.server()
    methods = {
        "Get": unary(get, StringValue),
        "List": unary(list_, Empty),
        "SetPrice": unary(set_price, Struct),
    }
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("shop.Catalogue", methods),)
    )
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    print(f"catalogue: {len(PRODUCTS)} products on port {port}", flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
