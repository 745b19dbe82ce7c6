"""A simulated proxy: the client side of delta ADS, as Envoy speaks it, in a few lines."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
from envoy.config.core.v3 import base_pb2
from envoy.service.discovery.v3 import ads_pb2_grpc, discovery_pb2

from watertight.dataplane.resources import ResourceType


class Proxy:
    """One stream to an xDS server."""

    def __init__(self, call: Any, node: str) -> None:
        self._call = call
        self._node: str | None = node

    async def ask(
        self, type_: ResourceType | str, *names: str, nonce: str = "", error: str = ""
    ) -> None:
        """Sends a request: a subscription, an ACK, or (with ``error``) a NACK."""
        request = discovery_pb2.DeltaDiscoveryRequest(
            type_url=str(type_), resource_names_subscribe=names, response_nonce=nonce
        )
        if self._node is not None:
            request.node.CopyFrom(base_pb2.Node(id=self._node))
            self._node = None
        if error:
            request.error_detail.message = error
        await self._call.write(request)

    async def answer(self) -> Any:
        """The next response. Raises ``grpc.aio.AioRpcError`` if the server ended the stream."""
        async with asyncio.timeout(60):
            response = await self._call.read()
        if response is grpc.aio.EOF:
            raise ConnectionError(await self._call.code())
        return response

    async def ack(self, response: Any) -> None:
        """Accepts a response."""
        await self.ask(response.type_url, nonce=response.nonce)


@asynccontextmanager
async def connected(socket: Path, node: str = "simulated") -> AsyncIterator[Proxy]:
    """A proxy on that socket, until the block ends."""
    async with grpc.aio.insecure_channel(f"unix:{socket}") as channel:
        call = ads_pb2_grpc.AggregatedDiscoveryServiceStub(channel).DeltaAggregatedResources()
        yield Proxy(call, node)
        call.cancel()
