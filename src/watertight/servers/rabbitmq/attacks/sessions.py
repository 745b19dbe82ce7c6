"""What is tried within a session of the right caller."""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import TypeAlias
from weakref import WeakKeyDictionary

from watertight.attack.arena import Arena
from watertight.attack.login import Dialect, Login
from watertight.attack.probe import Observation, Outcome, Probe, not_run
from watertight.attack.session import Act, attacked, used
from watertight.attack.wire import Wire
from watertight.servers.rabbitmq.attacks.dialect import (
    ACCESS_REFUSED,
    MAKE,
    NOT_ALLOWED,
    ONE_AT_A_TIME,
    SELECT,
    RabbitMQDialect,
    act,
    consume,
    publish,
)
from watertight.servers.rabbitmq.declaration import Grants

LAST = -100
"""The priority of a reader who gets what all others leave."""


@dataclass(frozen=True, slots=True)
class Caller:
    """One declared channel, and how to make its probes."""

    dialect: RabbitMQDialect
    login: Login
    granted: Grants

    def attack(self, identifier: str, attempt: str, tried: Act) -> Probe:
        """A probe that must be refused, tried within the caller's own session."""
        channel = self.login.channel
        return MAKE.attack(identifier, channel, attempt, _few, attacked, self, tried)

    def use(self, identifier: str, attempt: str, tried: Act) -> Probe:
        """A probe that must be served."""
        channel = self.login.channel
        return MAKE.use(identifier, channel, attempt, _few, used, self, tried)


AT_ONCE = 4
"""Sessions of one caller: its connections are limited, and its own program needs them."""
_gates: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, asyncio.Semaphore]]
_gates = WeakKeyDictionary()
_Tried: TypeAlias = Callable[[Arena, Dialect, Login, Act], Awaitable[Observation]]


async def _few(arena: Arena, tried: _Tried, caller: Caller, act: Act) -> Observation:
    gates = _gates.setdefault(asyncio.get_running_loop(), {})
    async with gates.setdefault(caller.login.channel, asyncio.Semaphore(AT_ONCE)):
        return await tried(arena, caller.dialect, caller.login, act)


def asks(request: bytes, answer: tuple[int, int]) -> Act:
    """One method and its answer."""

    async def ask(wire: Wire) -> Observation:
        return await act(wire, request, answer)

    return ask


def consumes(queue: str, *, exclusive: bool = False, priority: int = LAST) -> Act:
    """Reading, one message at most, which goes back; by default behind all others."""
    request = consume(queue, exclusive=exclusive, priority=priority)

    async def ask(wire: Wire) -> Observation:
        limited = await act(wire, ONE_AT_A_TIME, (60, 11))
        if limited.outcome is not Outcome.SERVED:
            return not_run(f"no limit: {limited.detail}")
        return await act(wire, request, (60, 21))

    return ask


def publishes(exchange: str, key: str) -> Act:
    """A message that is judged and never delivered."""
    return sends(publish(exchange, key))


def sends(message: bytes, *, no: Collection[int] = (ACCESS_REFUSED, NOT_ALLOWED)) -> Act:
    """What :func:`~dialect.publish` makes; ``no`` as for :func:`~dialect.act`."""

    async def ask(wire: Wire) -> Observation:
        selected = await act(wire, SELECT, (90, 11))
        if selected.outcome is not Outcome.SERVED:
            return not_run(f"no transaction: {selected.detail}")
        return await act(wire, message, (90, 31), no=no)

    return ask
