"""A running server, asked and changed as its operator."""

import asyncio
import datetime as dt
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from watertight.enforcers.resource import ServerHost, ServerPlan, ServerRefused
from watertight.servers.facts import Change, Fact
from watertight.servers.kind import Part
from watertight.servers.nats.accounts import CONNZ
from watertight.servers.nats.compile import CONFIGURATION, NATSGrants
from watertight.servers.nats.facts import (
    STREAM,
    configuration_of,
    consumer_fact,
    held_by,
    stream_fact,
)
from watertight.servers.nats.operator import RECOVERY_SECONDS, Operator, Refused, operator
from watertight.servers.nats.reload import POLL_SECONDS, ReloadFailed, loaded, moment

API = "$JS.API"
OTHER_CONFIGURATION = f"the server runs with another {CONFIGURATION} than the one that stands"
_ALL = 1 << 20
"""More sessions than a server has (max_connections is 65,536 by default)."""
_CLOSED = 1
"""``state`` in CONNZ: connections that have ended."""
_NEVER_IN = "Authentication Failure"


class NATSSession:
    """Implements :class:`~watertight.servers.kind.Session`."""

    def __init__(self, plan: ServerPlan, host: ServerHost, asked: Operator) -> None:
        self._plan, self._host, self._operator = plan, host, asked

    async def stale(self) -> Sequence[str]:
        """See the protocol: what stands was written after the server last read it."""
        file = self._host.placement.server_directory(self._plan.resource) / CONFIGURATION
        if not file.exists():
            return []  # which is drift by itself
        written = dt.datetime.fromtimestamp(file.stat().st_mtime, dt.UTC)
        return [OTHER_CONFIGURATION] if await loaded(self._operator) < written else []

    async def facts(self) -> frozenset[Fact]:
        """See the protocol. Consumers of a stream that is not declared stay, as it does."""
        grants: NATSGrants = self._plan.grants
        if not grants.streams:
            return frozenset()
        found = set()
        async for stream in self._pages(f"{API}.STREAM.LIST", "streams"):
            found.add(stream_fact(stream["config"], stream["state"]))
            name = stream["config"]["name"]
            if name in grants.streams:
                async for one in self._pages(f"{API}.CONSUMER.LIST.{name}", "consumers"):
                    found.add(consumer_fact(name, one["name"], one["config"]))
        return frozenset(found)

    async def execute(self, changes: Sequence[Change]) -> None:
        """See the protocol."""
        for change in changes:
            if not (change.removes and change.thing.kind == STREAM and _full(change.thing)):
                await self._ask(change.thing, *_request(change))

    async def take(self, _part: Part) -> None:
        """It takes everything by a signal."""
        raise NotImplementedError

    async def kick(self, service: str) -> int:
        """See the protocol: the server ends them as it loads a configuration without their user."""
        grants: NATSGrants = self._plan.grants
        user, still = f"spiffe://{grants.trust_domain}/{service}", None
        try:
            async with asyncio.timeout(RECOVERY_SECONDS):
                while found := await self._connections(user):
                    still = still or len(found)
                    await asyncio.sleep(POLL_SECONDS)
        except TimeoutError as late:
            raise ReloadFailed(self._plan, f"sessions of {service} are still open") from late
        return still or 0

    async def ended(self, service: str, since: dt.datetime) -> int:
        """How many sessions of a service have ended since then."""
        grants: NATSGrants = self._plan.grants
        user = f"spiffe://{grants.trust_domain}/{service}"
        found = await self._connections(user, state=_CLOSED)
        return sum(moment(c["stop"]) >= since and c["reason"] != _NEVER_IN for c in found)

    async def _connections(self, user: str, **options: Any) -> Sequence[Mapping[str, Any]]:
        asked = {"auth": True, "user": user, "limit": _ALL, **options}
        answer = await self._operator.ask(CONNZ, asked)
        connections: Sequence[Mapping[str, Any]] = answer["data"]["connections"]
        return connections

    async def _ask(self, thing: Fact, subject: str, body: Mapping[str, Any] | None) -> None:
        try:
            await self._operator.ask(f"{API}.{subject}", body)
        except Refused as error:
            raise ServerRefused(
                self._plan.at,
                f"{self._plan.resource} refuses {thing.name}: {error.message}.",
                f"Nothing was lost. If {thing.name} stands in the way, delete it with the command "
                "`nats`.",
            ) from error

    async def _pages(self, subject: str, key: str) -> AsyncIterator[dict[str, Any]]:
        """All of a list that comes in pages."""
        seen = 0
        while True:
            page = await self._operator.ask(subject, {"offset": seen})
            items = page.get(key) or []
            for item in items:
                yield item
            seen += len(items)
            if not items or seen >= page["total"]:
                return


def _full(stream: Fact) -> bool:
    return held_by(stream)["messages"] > 0


def _request(change: Change) -> tuple[str, Mapping[str, Any] | None]:
    """What to ask below ``$JS.API``."""
    kind, key = change.thing.kind.upper(), ".".join(change.thing.key)
    if change.removes:
        return f"{kind}.DELETE.{key}", None
    settings = configuration_of(change.thing)
    if change.thing.kind == STREAM:
        return f"STREAM.{'UPDATE' if change.found else 'CREATE'}.{key}", settings
    body = {"stream_name": change.thing.key[0], "config": settings}
    return f"CONSUMER.DURABLE.CREATE.{key}", body


@asynccontextmanager
async def session(plan: ServerPlan, host: ServerHost) -> AsyncIterator[NATSSession]:
    """The server, also one that reads in what it keeps."""
    async with operator(plan, host, within_seconds=RECOVERY_SECONDS) as asked:
        yield NATSSession(plan, host, asked)
