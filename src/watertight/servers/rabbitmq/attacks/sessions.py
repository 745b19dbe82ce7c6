"""What is tried within a session of the right caller."""

from collections.abc import Collection
from dataclasses import dataclass

from watertight.attack.login import Login
from watertight.attack.probe import Observation, Outcome, Probe, not_run
from watertight.attack.session import Act, attacked, few, used
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
        return MAKE.attack(
            identifier, channel, attempt, few, attacked, self.dialect, self.login, tried
        )

    def use(self, identifier: str, attempt: str, tried: Act) -> Probe:
        """A probe that must be served."""
        channel = self.login.channel
        return MAKE.use(identifier, channel, attempt, few, used, self.dialect, self.login, tried)


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
