"""Simulated proxies for ``bench.xds``: they ask, ACK everything, and count the bytes.

A process of its own, so that their work is not counted as the server's. Reads commands on stdin
(``go``: connect; ``report``: print what each was sent as JSON) and prints one line for each.
"""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import grpc
from envoy.config.core.v3 import base_pb2
from envoy.service.discovery.v3 import ads_pb2_grpc, discovery_pb2

from watertight.dataplane.resources import ResourceType

STREAMS_A_CHANNEL = 100


class SimulatedProxy:
    """Subscribes as Envoy does: clusters, then listeners, then the routes that they name."""

    def __init__(self, node: str, routes: list[str]) -> None:
        self.node = node
        self.sent = {"responses": 0, "bytes": 0}
        self._routes = routes
        self._asked: set[str] = set()

    async def run(self, channel: grpc.aio.Channel) -> None:
        """One stream, until it is cancelled."""
        call = ads_pb2_grpc.AggregatedDiscoveryServiceStub(channel).DeltaAggregatedResources()
        await self._ask(call, ResourceType.CLUSTER)
        while (response := await call.read()) is not grpc.aio.EOF:
            self.sent["responses"] += 1
            self.sent["bytes"] += response.ByteSize()
            await self._ask(call, response.type_url, nonce=response.nonce)
            if response.type_url == ResourceType.CLUSTER:
                await self._ask(call, ResourceType.LISTENER)
            elif response.type_url == ResourceType.LISTENER and self._routes:
                await self._ask(call, ResourceType.ROUTE, names=self._routes)

    async def _ask(
        self, call: Any, type_url: str, *, nonce: str = "", names: list[str] | None = None
    ) -> None:
        if not nonce and type_url in self._asked:
            return
        self._asked.add(type_url)
        request = discovery_pb2.DeltaDiscoveryRequest(
            node=base_pb2.Node(id=self.node),
            type_url=type_url,
            response_nonce=nonce,
            resource_names_subscribe=names or [],
        )
        await call.write(request)


async def main(socket: str, routes: dict[str, list[str]]) -> None:
    """Runs one proxy for each item of ``routes`` (node → names of its route configurations)."""
    fleet = [SimulatedProxy(*item) for item in routes.items()]
    tasks: list[asyncio.Task[None]] = []
    channels: list[grpc.aio.Channel] = []
    print("ready", flush=True)
    loop = asyncio.get_running_loop()
    async with asyncio.TaskGroup() as group:
        while command := (await loop.run_in_executor(None, sys.stdin.readline)).strip():
            if command == "go":
                for start in range(0, len(fleet), STREAMS_A_CHANNEL):
                    # Channels to the same address share a connection unless they differ.
                    options = [("bench.number", start)]
                    channel = grpc.aio.insecure_channel(f"unix:{socket}", options)
                    channels.append(channel)
                    part = fleet[start : start + STREAMS_A_CHANNEL]
                    tasks += [group.create_task(proxy.run(channel)) for proxy in part]
                print("gone", flush=True)
            else:
                print(json.dumps({proxy.node: proxy.sent for proxy in fleet}), flush=True)
        for task in tasks:
            task.cancel()
    for channel in channels:
        await channel.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], json.loads(Path(sys.argv[2]).read_text())))
