"""The xDS server: delta ADS for each proxy on a Unix socket of its own.

A proxy is identified by its socket, to which only its uid has access, and by nothing that it says
of itself. All state lives in the event loop that made the server; only that loop may call it.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import grpc
import structlog

from watertight.dataplane.resources import Resource, ResourceType
from watertight.dataplane.xds import stream, unix
from watertight.dataplane.xds.encode import Encoded, encode_all
from watertight.dataplane.xds.events import (
    Event,
    Overstepped,
    Refused,
    ResourcesChanged,
    Send,
)
from watertight.dataplane.xds.ledger import Ledger
from watertight.dataplane.xds.session import Session
from watertight.dataplane.xds.verdicts import ProxySilent, ResourceRefused

log = structlog.get_logger(__name__)

MAX_STREAMS = 8
"""Per proxy: a new one, those that are dying, and some to spare."""

SECRETS = frozenset({ResourceType.SECRET})
CONFIGURATION = frozenset(ResourceType) - SECRETS

_Desired: TypeAlias = dict[tuple[ResourceType, str], Encoded]

PATIENT = (("grpc.http2.max_ping_strikes", 0),)
"""A proxy pings now and then, to know of a control process that has hung. By default a gRPC server
takes that for abuse after three times, and ends the stream by which a revocation would come."""


@dataclass(slots=True)
class _Stream:
    session: Session = field(default_factory=Session)
    outbox: asyncio.Queue[Send] = field(default_factory=asyncio.Queue)
    """Bounded by the session: one response a type, and what was asked for."""


@dataclass(slots=True)
class _Proxy:
    configuration: _Desired | None = None
    """None: not known yet, which is not the same as nothing."""
    secrets: _Desired | None = None
    streams: list[_Stream] = field(default_factory=list)
    """The newest last; an older one is dying."""
    progress: asyncio.Event = field(default_factory=asyncio.Event)
    """Set, and replaced, whenever anything happens."""


class XDSServer:
    """What every proxy shall have, the sockets on which they ask for it, and what they answered."""

    def __init__(self, ledger: Ledger | None = None) -> None:
        self.ledger = ledger or Ledger()
        self._proxies: dict[str, _Proxy] = {}
        self._listening: dict[str, tuple[grpc.aio.Server, Path]] = {}

    async def listen(
        self, workload: str, socket: Path, *, owner: tuple[int, int] | None = None
    ) -> None:
        """Serves one proxy on a Unix socket of mode 0600 that belongs to ``owner`` (uid, gid).

        The directory exists and is private. Raises :class:`CannotListen` if another process
        serves that socket, or it cannot be made.
        """
        self._proxy(workload)
        await self._open(workload, socket, owner, lambda _node_id: workload)

    async def listen_for_all(self, socket: Path) -> None:
        """Serves any known proxy by the node id that it claims: for simulations only."""
        await self._open("", socket, None, lambda node_id: node_id)

    async def stop_listening(self, workload: str) -> None:
        """Stops serving that proxy and forgets it; it keeps what it has (xDS rule D11)."""
        if workload in self._listening:
            server, socket = self._listening.pop(workload)
            await server.stop(grace=None)
            socket.unlink(missing_ok=True)
        self._proxies.pop(workload, None)
        self.ledger.forget(workload)

    async def stop(self) -> None:
        """Closes every socket. Proxies go on with what they have."""
        for workload in list(self._listening):
            await self.stop_listening(workload)

    def set_resources(self, workload: str, resources: Sequence[Resource]) -> None:
        """Says all that a proxy shall have, but for secrets; sends what differs, at once.

        Setting what was refused once more tries it once more. Raises :class:`Unencodable`; what
        was set before then stays.
        """
        proxy = self._proxy(workload)
        proxy.configuration = encode_all(resources, proxy.configuration or {})
        self._tell(workload, proxy, ResourcesChanged(proxy.configuration, CONFIGURATION))

    def set_secrets(self, workload: str, secrets: Mapping[str, Mapping[str, Any]]) -> None:
        """Says all secrets that a proxy may ask for: name → body of an Envoy ``Secret``.

        Raises :class:`Unencodable`, which never quotes a secret.
        """
        proxy = self._proxy(workload)
        resources = [
            Resource(ResourceType.SECRET, name, {**body, "name": name})
            for name, body in secrets.items()
        ]
        proxy.secrets = encode_all(resources, proxy.secrets or {})
        self._tell(workload, proxy, ResourcesChanged(proxy.secrets, SECRETS))

    def connected(self, workload: str) -> bool:
        """Whether that proxy has a stream open now."""
        return workload in self._proxies and bool(self._proxies[workload].streams)

    async def wait_in_force(
        self, workload: str, *, deadline_seconds: float
    ) -> Mapping[ResourceType, str]:
        """Returns once the proxy has ACKed all that is set now: type → version of all it holds.

        Raises :class:`ResourceRefused` if it refuses any of it, :class:`ProxySilent` if it does
        not answer in time, or asks for what does not exist.
        """
        proxy = self._proxy(workload)
        try:
            async with asyncio.timeout(deadline_seconds):
                while (versions := _in_force(workload, proxy, settled=True)) is None:
                    await proxy.progress.wait()
        except TimeoutError:
            _in_force(workload, proxy, settled=False)
            session = proxy.streams[-1].session if proxy.streams else Session()
            raise ProxySilent(
                workload,
                deadline_seconds,
                connected=bool(proxy.streams),
                pending=tuple(session.pending()),
            ) from None
        return versions

    # One stream

    async def serve(self, workload: str, requests: stream.Requests, write: stream.Write) -> None:
        """Serves one stream of a proxy until it ends. Called by the gRPC servicer."""
        proxy = self._proxy(workload)
        if len(proxy.streams) >= MAX_STREAMS:
            raise Overstepped(f"more than {MAX_STREAMS} streams")
        current = _Stream()
        proxy.streams.append(current)
        self.ledger.connected(workload)
        log.info("proxy_connected", workload=workload)
        try:
            self._tell_stream(workload, proxy, current)
            writer = asyncio.ensure_future(_write_all(current.outbox, write))
            try:
                async for request in requests:
                    self._handle(workload, current, request)
            finally:
                writer.cancel()
                await asyncio.gather(writer, return_exceptions=True)
        finally:
            log.info("proxy_disconnected", workload=workload)
            proxy.streams.remove(current)
            if not proxy.streams and workload in self._proxies:
                self.ledger.disconnected(workload)
            _notify(proxy)

    def _tell_stream(self, workload: str, proxy: _Proxy, current: _Stream) -> None:
        for known, types in ((proxy.configuration, CONFIGURATION), (proxy.secrets, SECRETS)):
            if known is not None:
                self._handle(workload, current, ResourcesChanged(known, types))

    def _tell(self, workload: str, proxy: _Proxy, event: ResourcesChanged) -> None:
        for current in proxy.streams:
            self._handle(workload, current, event)
        _notify(proxy)

    def _handle(self, workload: str, current: _Stream, event: Event) -> None:
        for command in current.session.handle(event):
            self.ledger.record(workload, command)
            match command:
                case Send():
                    current.outbox.put_nowait(command)
                case Refused(type=type_, name=name, detail=detail):
                    log.warning(
                        "resource_refused",
                        workload=workload, type=type_, name=name, detail=detail,
                    )  # fmt: skip
        if workload in self._proxies:
            _notify(self._proxies[workload])

    def _proxy(self, workload: str) -> _Proxy:
        return self._proxies.setdefault(workload, _Proxy())

    async def _open(
        self,
        name: str,
        socket: Path,
        owner: tuple[int, int] | None,
        identify: Callable[[str], str],
    ) -> None:
        server = grpc.aio.server(options=PATIENT)
        stream.serve_on(server, self.serve, lambda node: self._known(identify(node)))
        unix.bind(server, socket, owner)
        await server.start()
        self._listening[name] = (server, socket)

    def _known(self, workload: str) -> str | None:
        return workload if workload in self._proxies else None


async def _write_all(outbox: asyncio.Queue[Send], write: stream.Write) -> None:
    while True:
        await write(await outbox.get())


def _notify(proxy: _Proxy) -> None:
    proxy.progress.set()
    proxy.progress = asyncio.Event()


def _in_force(workload: str, proxy: _Proxy, *, settled: bool) -> Mapping[ResourceType, str] | None:
    """What the proxy holds, if that is all that it shall hold. Raises if it refuses something.

    ``settled``: blame only once it is known in full.
    """
    if not proxy.streams:
        return None
    session = proxy.streams[-1].session
    if session.refusals and not (settled and session.settling):
        raise ResourceRefused(workload, session.refusals)
    return None if any(session.pending()) else session.versions
