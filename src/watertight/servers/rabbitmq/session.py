"""A running broker, asked by Erlang expressions as its own user."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from watertight.enforcers.resource import ServerHost, ServerPlan
from watertight.servers.facts import Change, Fact
from watertight.servers.kind import Part, RunsOtherwise
from watertight.servers.rabbitmq.compile import RabbitMQGrants
from watertight.servers.rabbitmq.control import (
    BrokerRefused,
    CookieRefused,
    control,
    evaluate,
)
from watertight.servers.rabbitmq.erlang import binary
from watertight.servers.rabbitmq.facts import ACTOR, DEFINITIONS, facts_of, removal
from watertight.servers.rabbitmq.in_force import State, look, not_in_force

READY_SECONDS = 60.0
STARTUP_MILLISECONDS = 30_000
POLL_SECONDS = 0.2
OTHER_COOKIE = "the broker's cookie was changed by hand"


class BrokerSession:
    """Implements :class:`~watertight.servers.kind.Session`."""

    def __init__(self, plan: ServerPlan, host: ServerHost, state: State) -> None:
        self._plan, self._host = plan, host
        self._state: State | None = state
        """As it was when last looked at; None once something was changed."""

    async def stale(self) -> Sequence[str]:
        """See the protocol."""
        return not_in_force(self._plan, await self._look())

    async def facts(self) -> frozenset[Fact]:
        """See the protocol."""
        return facts_of((await self._look()).definitions)

    async def execute(self, changes: Sequence[Change]) -> None:
        """See the protocol: takes away what was not declared, then brings what is."""
        self._state = None
        removals = [removal(change.thing) for change in changes if change.removes]
        if removals:
            await evaluate(self._host, *removals, "ok")
        if len(removals) < len(changes):
            directory = self._host.placement.server_directory(self._plan.resource)
            await control(self._host, "import_definitions", str(directory / DEFINITIONS))

    async def take(self, _part: Part) -> None:
        """The broker keeps certificates in memory for two minutes; it is told to forget them."""
        await evaluate(self._host, "ssl:clear_pem_cache()")

    async def kick(self, service: str) -> int:
        """See the protocol."""
        self._state = None
        grants: RabbitMQGrants = self._plan.grants
        user = binary(f"spiffe://{grants.trust_domain}/{service}")
        ended = await evaluate(
            self._host,
            f"Open = length(rabbit_connection_tracking:list_of_user({user}))",
            f"catch rabbit_auth_backend_internal:delete_user({user}, {ACTOR})",
            f'rabbit_networking:close_all_user_connections({user}, "revoked")',
            "Open",
        )
        return int(ended) if ended.isdigit() else 0

    async def _look(self) -> State:
        if self._state is None:
            self._state = await look(self._plan, self._host)
        return self._state


@asynccontextmanager
async def session(plan: ServerPlan, host: ServerHost) -> AsyncIterator[BrokerSession]:
    """The broker, also if it has just been started again after it died."""
    try:
        try:
            state = await look(plan, host)
        except CookieRefused:
            raise
        except BrokerRefused:
            await until_up(host)
            state = await look(plan, host)
    except CookieRefused as refused:
        raise RunsOtherwise(OTHER_COOKIE) from refused
    yield BrokerSession(plan, host, state)


async def until_up(host: ServerHost) -> None:
    """The port accepts a moment before the broker has started all of it."""
    deadline = time.monotonic() + READY_SECONDS
    while True:
        try:
            up = await evaluate(
                host, f"rabbit:await_startup(node(), false, {STARTUP_MILLISECONDS})"
            )
            if up != "ok":
                raise BrokerRefused(f"{host.resource}: the broker does not start up: {up}")
        except BrokerRefused:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(POLL_SECONDS)
        else:
            return
