"""What RabbitMQ's permissions do not say: routing by headers, starving, asking, flooding."""

from collections.abc import Iterator
from dataclasses import replace

from watertight.attack.probe import Probe
from watertight.servers.rabbitmq.attacks import claims, frames
from watertight.servers.rabbitmq.attacks import dialect as ask
from watertight.servers.rabbitmq.attacks.dialect import MAKE
from watertight.servers.rabbitmq.attacks.examples import STRANGER, example, may_publish_to, near
from watertight.servers.rabbitmq.attacks.sessions import Caller, asks, consumes, sends
from watertight.servers.rabbitmq.declaration import (
    CHANNELS_A_CONNECTION,
    SEND,
    TOPIC,
    Broker,
)

COPIES = {"grants.cc": "CC", "grants.bcc": "BCC"}
"""Headers whose values are routing keys, too (rabbitmq.com/docs/sender-selected)."""
LARGE_FRAME = 1 << 24


def attacks(caller: Caller, declared: Broker) -> Iterator[Probe]:
    """Everything that one caller may try by itself."""
    yield from _copies(caller, declared)
    yield from _names(caller, declared)
    yield from _starving(caller)
    yield from _routes(caller, declared)
    yield from _sizes(caller)
    yield _malformed(caller)


def _copies(caller: Caller, declared: Broker) -> Iterator[Probe]:
    for identifier, header in COPIES.items():
        for exchange, key, other in _beside(caller, declared):
            message = ask.publish(exchange, key, headers=frames.array(header, other))
            what = f"a message to {exchange} with the key {key}, and in {header} {other}"
            yield caller.attack(identifier, what, sends(message))


def _beside(caller: Caller, declared: Broker) -> Iterator[tuple[str, str, str]]:
    """Exchange, a routing key that is granted, and one that is not."""
    for exchange, patterns in caller.granted.publish.items():
        others = list(near(patterns)) if declared.exchanges.get(exchange) == TOPIC else []
        for other in others[:2]:
            yield exchange, example(patterns[0]), other
    for queue in caller.granted.send:
        for other in [q for q in declared.queues if q != queue]:
            yield f"{SEND}{queue}", queue, other


def _names(caller: Caller, declared: Broker) -> Iterator[Probe]:
    """Whether something is there, and how much is in it."""
    for queue in (*declared.queues, STRANGER):
        if queue not in caller.granted.consume:
            what = f"whether there is a queue {queue}, and how full it is"
            asked = asks(ask.declare_queue(queue, passive=True), (50, 11))
            yield caller.attack("grants.ask-queue", what, asked)
    for exchange in (*declared.exchanges, STRANGER):
        if exchange not in may_publish_to(caller.granted):
            what = f"whether there is an exchange {exchange}"
            asked = asks(ask.declare_exchange(exchange, passive=True), (40, 11))
            yield caller.attack("grants.ask-exchange", what, asked)


def _starving(caller: Caller) -> Iterator[Probe]:
    for queue in caller.granted.consume:
        yield caller.attack(
            "grants.read-alone", f"the queue {queue}, read alone", consumes(queue, exclusive=True)
        )
        yield caller.attack(
            "grants.read-first",
            f"the queue {queue}, read before all others",
            consumes(queue, priority=100),
        )


def _routes(caller: Caller, declared: Broker) -> Iterator[Probe]:
    """Ways that a declarer could lay, and names that a sender could claim."""
    last = frames.table(**{"x-dead-letter-exchange": "", "x-message-ttl": "0"})
    yield caller.attack(
        "grants.dead-letters",
        "a queue whose messages go on by the default exchange",
        asks(ask.declare_queue(STRANGER, table=last), (50, 11)),
    )
    other = frames.table(**{"alternate-exchange": "amq.fanout"})
    yield caller.attack(
        "grants.alternate-exchange",
        "an exchange that passes on what it cannot route",
        asks(ask.declare_exchange(STRANGER, table=other), (40, 11)),
    )
    exchanges = may_publish_to(caller.granted)
    for exchange in exchanges:
        for source in [e for e in declared.exchanges if e != exchange]:
            yield caller.attack(
                "grants.bind-exchange",
                f"the exchange {exchange}, bound to {source}",
                asks(ask.bind_exchange(exchange, source, STRANGER), (40, 31)),
            )
    reply = f"amq.rabbitmq.reply-to.{STRANGER}"
    yield caller.attack(
        "grants.direct-reply",
        "a message to whoever waits for a direct reply",
        sends(ask.publish("", reply)),
    )
    if exchanges:
        someone = f"spiffe://{caller.login.system.trust_domain}/{STRANGER}"
        key = _permitted(caller, exchanges[0])
        yield caller.attack(
            "grants.user-id",
            f"a message to {exchanges[0]} from {someone}, as it says",
            sends(ask.publish(exchanges[0], key, user=someone), no=(ask.PRECONDITION_FAILED,)),
        )


def _sizes(caller: Caller) -> Iterator[Probe]:
    """Limits of one connection. A user's are not tried: the app itself would run into them."""
    tries = {
        "limits.channels": (
            f"more than {CHANNELS_A_CONNECTION} channels on one connection",
            replace(caller.dialect, channel_max=CHANNELS_A_CONNECTION + 1),
        ),
        "limits.frame": (
            f"frames of {LARGE_FRAME >> 20} MiB",
            replace(caller.dialect, frame_max=LARGE_FRAME),
        ),
    }
    for identifier, (what, spoken) in tries.items():
        channel = caller.login.channel
        yield MAKE.attack(
            identifier, channel, what, claims.tried, caller.dialect, spoken, caller.login
        )


def _malformed(caller: Caller) -> Probe:
    """A string in the headers that is longer than they are."""
    exchange = next(iter(may_publish_to(caller.granted)), "")
    headers = frames.short("long") + b"S" + (1 << 31).to_bytes(4, "big")
    key = _permitted(caller, exchange) if exchange else STRANGER
    return caller.attack(
        "limits.malformed",
        f"a message to {exchange or 'the default exchange'} whose properties cannot be read",
        sends(ask.publish(exchange, key, headers=headers)),
    )


def _permitted(caller: Caller, exchange: str) -> str:
    """A routing key that the caller may use there."""
    patterns = caller.granted.publish.get(exchange, ())
    return example(patterns[0]) if patterns else exchange.removeprefix(SEND)


def large_message(caller: Caller, declared: Broker) -> Iterator[Probe]:
    """One byte more than the broker takes: the same for whoever sends it, so once a broker."""
    size = declared.message_bytes + 1
    for exchange in may_publish_to(caller.granted)[:1]:
        key = _permitted(caller, exchange)
        yield caller.attack(
            "limits.message",
            f"a message of {size} bytes to {exchange}",
            sends(ask.publish(exchange, key, body=bytes(size)), no=(ask.PRECONDITION_FAILED,)),
        )
