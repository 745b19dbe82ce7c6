"""A bare gRPC client of the Workload API: it sends what a test tells it to, right or wrong."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc

from watertight.identity.workload_api import messages
from watertight.identity.workload_api.service import SECURITY_HEADER

RIGHT = (SECURITY_HEADER,)
DEADLINE_SECONDS = 60.0


class Client:
    """One connection, one method per RPC of the Workload API."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel

    def call(self, kind: str, method: str, request: Any, metadata: Any = RIGHT) -> Any:
        """An RPC of any name and shape; answers are given as bytes."""
        multicallable = getattr(self.channel, kind)(
            f"/{messages.SERVICE}/{method}",
            request_serializer=lambda message: message.SerializeToString(),
        )
        return multicallable(request, metadata=metadata, timeout=DEADLINE_SECONDS)

    def stream(self, method: str, metadata: Any = RIGHT) -> "Stream":
        """``FetchX509SVID`` → the stream of its answers."""
        name = method.removeprefix("Fetch")
        call = self.call("unary_stream", method, messages.MESSAGES[f"{name}Request"](), metadata)
        return Stream(call, messages.MESSAGES[f"{name}Response"])

    async def fetch_jwt(self, *audience: str, spiffe_id: str = "", metadata: Any = RIGHT) -> Any:
        """The answer of FetchJWTSVID."""
        request = messages.JWTSVIDRequest(audience=audience, spiffe_id=spiffe_id)
        answer = await self.call("unary_unary", "FetchJWTSVID", request, metadata)
        return messages.JWTSVIDResponse.FromString(answer)

    async def validate_jwt(self, audience: str, svid: str, metadata: Any = RIGHT) -> Any:
        """The answer of ValidateJWTSVID."""
        request = messages.ValidateJWTSVIDRequest(audience=audience, svid=svid)
        answer = await self.call("unary_unary", "ValidateJWTSVID", request, metadata)
        return messages.ValidateJWTSVIDResponse.FromString(answer)


class Stream:
    """The answers of one streaming RPC."""

    def __init__(self, call: Any, message: Any) -> None:
        self.call = call
        self._message = message

    async def next(self) -> Any:
        """The next answer; raises ``grpc.aio.AioRpcError`` if the stream is refused or over."""
        answer = await self.call.read()
        assert answer is not grpc.aio.EOF
        return self._message.FromString(answer)


@asynccontextmanager
async def client(path: Path) -> AsyncIterator[Client]:
    """A client of its own connection: gRPC would share one between channels."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.insecure_channel(f"unix:{path}", options=options) as channel:
        yield Client(channel)
