"""What is tried within a session of the right caller."""

from dataclasses import dataclass

from watertight.enforcers.attack.login import Login
from watertight.enforcers.attack.session import Act, attacked, used
from watertight.enforcers.attack.wire import Wire
from watertight.enforcers.contract import Observation, Outcome, Probe, not_run
from watertight.enforcers.rabbitmq.declaration import Grants
from watertight.enforcers.rabbitmq.probes.dialect import (
    MAKE,
    ONE_AT_A_TIME,
    SELECT,
    RabbitMQDialect,
    act,
    consume_gently,
    publish,
)


@dataclass(frozen=True, slots=True)
class Caller:
    """One declared channel, and how to make its probes."""

    dialect: RabbitMQDialect
    login: Login
    granted: Grants

    def attack(self, identifier: str, attempt: str, tried: Act) -> Probe:
        """A probe that must be refused, tried within the caller's own session."""
        channel = self.login.channel
        return MAKE.attack(identifier, channel, attempt, attacked, self.dialect, self.login, tried)

    def use(self, identifier: str, attempt: str, tried: Act) -> Probe:
        """A probe that must be served."""
        channel = self.login.channel
        return MAKE.use(identifier, channel, attempt, used, self.dialect, self.login, tried)


def asks(request: bytes, answer: tuple[int, int]) -> Act:
    """One method and its answer."""

    async def ask(wire: Wire) -> Observation:
        return await act(wire, request, answer)

    return ask


def consumes(queue: str) -> Act:
    """Permission to read, without taking what others wait for."""

    async def ask(wire: Wire) -> Observation:
        limited = await act(wire, ONE_AT_A_TIME, (60, 11))
        if limited.outcome is not Outcome.SERVED:
            return not_run(f"no limit: {limited.detail}")
        return await act(wire, consume_gently(queue), (60, 21))

    return ask


def publishes(exchange: str, key: str) -> Act:
    """A message that is judged and never delivered."""

    async def ask(wire: Wire) -> Observation:
        selected = await act(wire, SELECT, (90, 11))
        if selected.outcome is not Outcome.SERVED:
            return not_run(f"no transaction: {selected.detail}")
        return await act(wire, publish(exchange, key), (90, 31))

    return ask
