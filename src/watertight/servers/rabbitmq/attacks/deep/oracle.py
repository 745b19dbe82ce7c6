"""What a caller may do at a broker, by its grants alone; everything else must be refused."""

from dataclasses import dataclass
from functools import cached_property

from watertight.servers.rabbitmq.attacks.examples import covered, may_publish_to
from watertight.servers.rabbitmq.attacks.sessions import Caller
from watertight.servers.rabbitmq.declaration import SEND, TOPIC, Broker

REPLIES = "amq.rabbitmq.reply-to"
"""Everybody's own: what comes back on the channel that asked (rabbitmq.com/docs/direct-reply-to).
Nobody may answer, for that goes by the default exchange."""


@dataclass(frozen=True)
class World:
    """What there is at one broker, and who attacks."""

    caller: Caller
    declared: Broker
    everybody: tuple[Caller, ...]
    expendable: bool = False
    """Whether nothing at this broker is anybody's. Else what may be done is done so that no
    application notices: what is sent is taken back, and nothing is read."""

    @cached_property
    def user(self) -> str:
        """Who the broker takes the caller for."""
        return self.user_of(self.caller)

    @staticmethod
    def user_of(caller: Caller) -> str:
        """A service's SPIFFE ID."""
        return caller.login.system.spiffe_id(caller.login.service)

    @cached_property
    def exchanges(self) -> tuple[str, ...]:
        """All that were declared, and those that lead to one queue."""
        sent = (f"{SEND}{queue}" for queue in self.declared.queues)
        return (*self.declared.exchanges, *sent)

    def may_publish(self, exchange: str, key: str) -> bool:
        """Whether a message may go there. No name is changed on the way."""
        if exchange not in may_publish_to(self.caller.granted):
            return False
        patterns = self.caller.granted.publish.get(exchange, ())
        if self.declared.exchanges.get(exchange) != TOPIC:
            return True
        return covered(tuple(patterns), key)

    def may_read(self, queue: str) -> bool:
        """Whether messages of the queue may be taken."""
        return queue in self.caller.granted.consume

    def may_ask_queue(self, name: str) -> bool:
        """Whether it may know that the queue is there, and how full it is."""
        return stripped(name) in self.caller.granted.consume

    def may_ask_exchange(self, name: str) -> bool:
        """Whether it may know that the exchange is there."""
        return stripped(name) in may_publish_to(self.caller.granted)


def stripped(name: str) -> str:
    """A name as the broker reads it where things are declared, asked for or deleted."""
    return name.replace("\r", "").replace("\n", "")
