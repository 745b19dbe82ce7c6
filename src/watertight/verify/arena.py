"""The running system as the prober touches it: footholds inside, doors outside, forged papers."""

import asyncio
import math
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from watertight.attack.arena import Credential, Forgery, Inside, Listening
from watertight.attack.overheard_streams import holds_frames
from watertight.model.addresses import loopback_addresses
from watertight.model.placement import Placement
from watertight.model.system import Protocol, System
from watertight.verify.foothold import Foothold, Run
from watertight.verify.forge import Forger
from watertight.verify.tap import Tap, begins_request, prepare
from watertight.verify.tokens import TokenSigner

FRESH_SECONDS = 2.0
LOOKS_SHARE = 0.2
"""Of the prover's time: a look at hundreds of pods takes seconds, and hundreds of probes ask."""
RESOLVER_SECONDS = 3.0
POLL_SECONDS = 0.25


def _is_udp(entry: Listening) -> bool:
    return entry.address.startswith("udp:")


class LiveArena:
    """Implements ``attack.arena.Arena`` on this host. An async context manager.

    ``system`` is what is in force (revoked identities left out); ``foothold`` runs argv inside a
    service's sandbox as its app; ``listening`` tells every socket of every managed process;
    ``roots`` the current trust bundle as PEM; ``packet_socket`` makes one where a service's app
    listens (None: no right to look); ``token_keys`` holds, by issuer name, the private
    JWKs that the operator lends for the proof.
    """

    def __init__(  # noqa: PLR0913 - what the outside world is made of
        self,
        system: System,
        placement: Placement,
        *,
        foothold: Run,
        listening: Callable[[], Awaitable[Sequence[Listening]]],
        forger: Forger,
        roots: Callable[[], bytes],
        token_keys: Mapping[str, Mapping[str, Any]] | None = None,
        packet_socket: Callable[[str], Awaitable[socket.socket | None]] | None = None,
    ) -> None:
        self.system = system
        self.placement = placement
        self._run = foothold
        self._listening = listening
        self.forger = forger
        self._roots = roots
        issuers = system.gateway.issuers if system.gateway else {}
        self._tokens = TokenSigner(issuers, token_keys or {})
        self._footholds: dict[str, Foothold] = {}
        self._gaining: dict[str, asyncio.Lock] = {}
        self._alone: dict[str, asyncio.Lock] = {}
        self._looking: asyncio.Future[None] | None = None
        self._listed: Sequence[Listening] = ()
        self._fresh_until = -math.inf
        self._packet_socket = packet_socket
        self._taps: dict[str, tuple[Tap, int]] = {}
        """By service, each with the number of those who look through it."""
        self._tapping: dict[str, asyncio.Lock] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends every probe agent and removes every forged key."""
        if self._looking is not None:
            self._looking.cancel()
        for tap, _ in self._taps.values():
            tap.close()
        try:
            for foothold in self._footholds.values():
                await foothold.close()
        finally:
            self.forger.close()

    async def inside(self, service: str) -> Inside:
        """See ``Arena``; one agent a service, shared by all probes. Raises ``FootholdLost``."""
        async with self._gaining.setdefault(service, asyncio.Lock()):
            if service not in self._footholds:
                self._footholds[service] = await Foothold.gain(service, self._run)
        return self._footholds[service]

    @asynccontextmanager
    async def alone(self, service: str) -> AsyncIterator[Inside]:
        """See ``Arena``. Raises ``FootholdLost``.

        One at a time in a service: who takes too much there has the newest agent ended, not his.
        """
        async with self._alone.setdefault(service, asyncio.Lock()):
            foothold = await Foothold.gain(service, self._run)
            try:
                yield foothold
            finally:
                await foothold.close()

    def address(self, caller: str, callee: str) -> str:
        """See ``Arena``."""
        if not self.placement.shared_network:
            return callee
        pair = f"{caller}>{callee}"
        declared = {f"{c.source}>{c.target}" for c in self.system.channels}
        return loopback_addresses(declared | {pair})[pair]

    def door(self, callee: str, caller: str) -> Path:
        """See ``Arena``."""
        return self.placement.door(callee, caller)

    def doors(self, callee: str) -> Sequence[Path]:
        """See ``Arena``."""
        return sorted(self.placement.door_directory(callee).glob("*.sock"))

    @asynccontextmanager
    async def witness(self, service: str, port: int) -> AsyncIterator[Tap | None]:
        """See ``Arena``; one tap a service, for as long as anybody looks."""
        tap = await self._tap(service, port)
        try:
            yield tap
        finally:
            if tap is not None:
                looking = self._taps[service][1] - 1
                self._taps[service] = (tap, looking)
                if not looking:
                    del self._taps[service]
                    tap.close()

    async def _tap(self, service: str, port: int) -> Tap | None:
        async with self._tapping.setdefault(service, asyncio.Lock()):
            if service in self._taps:
                tap, looking = self._taps[service]
            else:
                made = await self._packet_socket(service) if self._packet_socket else None
                if made is None:
                    return None
                prepare(made, port)
                tap, looking = Tap(made, port, self._begins(service)), 0
            self._taps[service] = (tap, looking + 1)
            return tap

    def _begins(self, service: str) -> Callable[[bytes], bool]:
        """How a message to that app begins."""
        listens = self.system.services[service].listens
        framed = listens is not None and listens.protocol is Protocol.GRPC
        return holds_frames if framed else begins_request

    def roots(self) -> bytes:
        """See ``Arena``."""
        return self._roots()

    async def svid(self, service: str) -> Credential:
        """See ``Arena``. Raises ``CannotForge``."""
        spiffe_id = self.system.spiffe_id(service)
        return self.forger.svid(spiffe_id, service)

    async def forge(self, forgery: Forgery) -> Credential:
        """See ``Arena``. Raises ``CannotForge``."""
        return self.forger.forge(forgery)

    async def listening(self) -> Sequence[Listening]:
        """See ``Arena``; a little old at most, for every probe of a port asks for all.

        Who asks while somebody looks gets what is seen then, also if the other gives up meanwhile.
        """
        if time.monotonic() > self._fresh_until:
            if self._looking is None or self._looking.done():
                self._looking = asyncio.ensure_future(self._look())
            await asyncio.shield(self._looking)
        return self._listed

    async def _look(self) -> None:
        began = time.monotonic()
        self._listed = await self._lasting()
        ended = time.monotonic()
        self._fresh_until = ended + max(FRESH_SECONDS, (ended - began) / LOOKS_SHARE)

    async def _lasting(self) -> Sequence[Listening]:
        """What listens. A UDP socket counts if it stays: a resolver opens one for each question."""
        listed = await self._listening()
        deadline = time.monotonic() + RESOLVER_SECONDS
        while any(_is_udp(entry) for entry in listed) and time.monotonic() < deadline:
            await asyncio.sleep(POLL_SECONDS)
            still = set(await self._listening())
            listed = [entry for entry in listed if not _is_udp(entry) or entry in still]
        return listed

    async def token(
        self, issuer: str, *, header: Mapping[str, Any] | None = None, **claims: Any
    ) -> str | None:
        """See ``Arena``. Raises ``UnusableKey``."""
        return self._tokens.sign(issuer, claims, header=header or {})

    async def public_key(self, issuer: str) -> bytes | None:
        """See ``Arena``. Raises ``UnusableKey``."""
        return self._tokens.public_key(issuer)
