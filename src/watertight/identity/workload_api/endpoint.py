"""Every socket of identities of one run, and the servers behind them, one an identity.

As with other SPIFFE implementations, one socket offers both the Workload API and Envoy's secret
discovery service, to whoever is attested.
"""

import asyncio
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc

from watertight.identity import sds
from watertight.identity.attestation import Attestor
from watertight.identity.clock import Clock, system_clock
from watertight.identity.files import make_private_directory
from watertight.identity.source import IdentitySource
from watertight.identity.workload_api.listener import Listener
from watertight.identity.workload_api.service import WorkloadAPI
from watertight.identity.workload_api.shares import Share

CAPACITY = 256
"""Connections a listener holds at once: far more than one service needs, few enough to bear."""
MESSAGE_BYTES = 64 * 1024
"""Of a request; the largest that is accepted for what it says, a CSR or a token, has a quarter."""

_OPTIONS = (
    ("grpc.so_reuseport", 0),
    ("grpc.max_concurrent_streams", 256),
    ("grpc.max_receive_message_length", MESSAGE_BYTES),
)

_NOBODYS_OPTIONS = (
    *_OPTIONS,
    # Who called before it was known must not stay nobody: its next connection is attested anew.
    ("grpc.max_connection_age_ms", 2_000),
    ("grpc.max_connection_age_grace_ms", 2_000),
)


class IdentityEndpoint:
    """Opens sockets at which attested workloads get their identities.

    ``private_directory`` is made if need be, mode 0700: the sockets in it ask nobody who they
    are. Call :meth:`close` at the end, or use it as an asynchronous context manager.
    """

    def __init__(
        self,
        source: IdentitySource,
        attestor: Attestor,
        private_directory: Path,
        now: Clock = system_clock,
    ) -> None:
        self._source = source
        self._attestor = attestor
        self._directory = private_directory
        self._now = now
        self._listeners: dict[Path, Listener] = {}
        self._servers: dict[str | None, tuple[Any, Path]] = {}
        self._starting = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def open(self, path: Path, *, mode: int = 0o600, capacity: int = CAPACITY) -> Listener:
        """Listens at ``path``; raises ``ListenerError`` if it cannot be made there.

        ``mode`` decides who may knock; only attestation decides who gets what. One for a
        service of another uid needs 0o666 in a directory that only this service sees.
        """
        await self.shut(path)
        make_private_directory(self._directory)
        listener = Listener(self._attestor, self._server_socket, capacity=capacity)
        await listener.open(path, mode)
        self._listeners[path] = listener
        return listener

    async def shut(self, path: Path) -> None:
        """Closes the listener at ``path`` and ends its connections; no error if there is none."""
        if (listener := self._listeners.pop(path, None)) is not None:
            await listener.close()

    async def close(self) -> None:
        """Closes every listener, then every server."""
        for path in list(self._listeners):
            await self.shut(path)
        for server, path in self._servers.values():
            await server.stop(grace=None)
            path.unlink(missing_ok=True)
        self._servers.clear()

    async def _server_socket(self, workload: str | None) -> Path:
        """The socket of the server for ``workload``, which is started on first use."""
        async with self._starting:
            if workload not in self._servers:
                # Numbered, not named: a Unix socket's path is short, a name may be long.
                path = self._directory / f"{len(self._servers)}.sock"
                path.unlink(missing_ok=True)
                self._servers[workload] = (await self._start(workload, path), path)
            return self._servers[workload][1]

    async def _start(self, workload: str | None, path: Path) -> Any:
        server = grpc.aio.server(options=_NOBODYS_OPTIONS if workload is None else _OPTIONS)
        share = Share()
        server.add_generic_rpc_handlers(
            (
                WorkloadAPI(self._source, workload, self._now, share).handler(),
                sds.SecretDiscovery(self._source, workload, self._now, share).handler(),
            )
        )
        server.add_insecure_port(f"unix:{path}")
        await server.start()
        return server
