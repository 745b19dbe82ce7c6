"""The gRPC side of one stream: protobuf messages to the session's events and back."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeAlias

import grpc
import structlog
from envoy.service.discovery.v3 import ads_pb2_grpc, discovery_pb2

from watertight.dataplane.resources import ResourceType
from watertight.dataplane.xds.events import Overstepped, Requested, Send

log = structlog.get_logger(__name__)

Requests: TypeAlias = AsyncIterator[Requested]
Write: TypeAlias = Callable[[Send], Awaitable[None]]
Serve: TypeAlias = Callable[[str, Requests, Write], Awaitable[None]]
Identify: TypeAlias = Callable[[str], str | None]
"""The workload behind a stream, given the node id that it claims; None: nobody we know."""

TYPES: dict[str, ResourceType] = {t.value: t for t in ResourceType}


class _Servicer(ads_pb2_grpc.AggregatedDiscoveryServiceServicer):  # type: ignore[misc, unused-ignore]
    def __init__(self, serve: Serve, identify: Identify) -> None:
        self._serve = serve
        self._identify = identify

    async def DeltaAggregatedResources(  # noqa: N802 (gRPC's name)
        self, request_iterator: AsyncIterator[Any], context: Any
    ) -> None:
        """ADS, incremental (xDS protocol, "Incremental xDS")."""
        first = await anext(aiter(request_iterator), None)
        if first is None:
            return
        # The node is only guaranteed on the first request of a stream (D2).
        workload = self._identify(first.node.id)
        if workload is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such proxy is declared")
            return

        async def requests() -> Requests:
            if event := _event(first):
                yield event
            async for request in request_iterator:
                if event := _event(request):
                    yield event

        async def write(send: Send) -> None:
            await context.write(_response(send))

        try:
            await self._serve(workload, requests(), write)
        except Overstepped as error:
            log.warning("proxy_overstepped", workload=workload, reason=str(error))
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error))


def serve_on(server: grpc.aio.Server, serve: Serve, identify: Identify) -> None:
    """Registers delta ADS on a gRPC server: each stream is handed to ``serve``."""
    ads_pb2_grpc.add_AggregatedDiscoveryServiceServicer_to_server(
        _Servicer(serve, identify), server
    )


def _event(request: Any) -> Requested | None:
    """A request as an event; None for a type that we do not serve (it stays unanswered)."""
    if (resource_type := TYPES.get(request.type_url)) is None:
        return None
    return Requested(
        resource_type,
        nonce=request.response_nonce,
        error=request.error_detail.message if request.HasField("error_detail") else None,
        subscribe=tuple(request.resource_names_subscribe),
        unsubscribe=tuple(request.resource_names_unsubscribe),
        initial_versions=dict(request.initial_resource_versions),
    )


def _response(send: Send) -> Any:
    return discovery_pb2.DeltaDiscoveryResponse(
        type_url=send.type.value,
        nonce=send.nonce,
        resources=[
            discovery_pb2.Resource(name=e.name, version=e.version, resource=e.body)
            for e in send.resources
        ],
        removed_resources=send.removed,
    )
