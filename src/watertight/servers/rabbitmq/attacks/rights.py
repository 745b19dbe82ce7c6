"""What each service may do, and everything near it that it may not."""

from collections.abc import Iterator

from watertight.attack.probe import Probe
from watertight.servers.rabbitmq.attacks import dialect as ask
from watertight.servers.rabbitmq.attacks.examples import STRANGER, example, may_publish_to, near
from watertight.servers.rabbitmq.attacks.sessions import Caller, asks, consumes, publishes
from watertight.servers.rabbitmq.declaration import (
    SEND,
    TOPIC,
    Broker,
)


def uses(caller: Caller) -> Iterator[Probe]:
    """Every grant, so that no application notices: nothing is delivered, nothing acknowledged."""
    for exchange, patterns in caller.granted.publish.items():
        for key in [example(pattern) for pattern in patterns] or [STRANGER]:
            what = f"a message to {exchange} with the key {key}, rolled back"
            yield caller.use("use.publish", what, publishes(exchange, key))
    for queue in caller.granted.send:
        what = f"a message to the queue {queue}, rolled back"
        yield caller.use("use.send", what, publishes(f"{SEND}{queue}", queue))
    for queue in caller.granted.consume:
        what = f"the queue {queue}, read behind all others and given back"
        yield caller.use("use.consume", what, consumes(queue))


def attacks(caller: Caller, declared: Broker, sent: frozenset[str]) -> Iterator[Probe]:
    """By complement: every exchange, key and queue that was not granted, and all administration.

    ``sent``: the queues that have an exchange of their own, for anybody.
    """
    yield from _publications(caller, declared, sent)
    queues = [queue for queue in declared.queues if queue not in caller.granted.consume]
    for queue in queues:
        yield caller.attack(
            "grants.consume", f"messages of the queue {queue}", asks(ask.consume(queue), (60, 21))
        )
        yield caller.attack(
            "grants.purge", f"the queue {queue}, emptied", asks(ask.purge(queue), (50, 31))
        )
    for queue in declared.queues:
        yield from _administration(caller, declared, queue)
    for exchange in declared.exchanges:
        yield caller.attack(
            "grants.delete-exchange",
            f"the exchange {exchange}, deleted",
            asks(ask.delete_exchange(exchange), (40, 21)),
        )
    made = (
        ("grants.declare-queue", "a queue of its own", ask.declare_queue(STRANGER), (50, 11)),
        (
            "grants.exclusive-queue",
            "an exclusive queue with a name by the broker",
            ask.declare_queue("", exclusive=True),
            (50, 11),
        ),
        ("grants.declare-exchange", "an exchange", ask.declare_exchange(STRANGER), (40, 11)),
    )
    for identifier, what, request, answer in made:
        yield caller.attack(identifier, what, asks(request, answer))


def _publications(caller: Caller, declared: Broker, sent: frozenset[str]) -> Iterator[Probe]:
    allowed = may_publish_to(caller.granted)
    exchanges = [*declared.exchanges, *(f"{SEND}{queue}" for queue in sorted(sent))]
    refused = [e for e in exchanges if e not in allowed]
    for exchange in (*refused, *(f"{e}\n" for e in allowed)):
        key = exchange.removeprefix(SEND)
        what = f"a message to the exchange {exchange!r}"
        yield caller.attack("grants.publish", what, publishes(exchange, key))
    for queue in declared.queues:
        what = f"a message to the queue {queue} by the default exchange"
        yield caller.attack("grants.default-exchange", what, publishes("", queue))
    for exchange in ("amq.topic", "amq.fanout", "amq.direct", "amq.headers"):
        what = f"a message to {exchange}, which every virtual host has"
        yield caller.attack("grants.built-in-exchange", what, publishes(exchange, STRANGER))
    for exchange, patterns in caller.granted.publish.items():
        if declared.exchanges.get(exchange) != TOPIC:
            continue
        for key in near(patterns):
            what = f"a message to {exchange} with the key {key!r}"
            yield caller.attack("grants.routing-key", what, publishes(exchange, key))


def _administration(caller: Caller, declared: Broker, queue: str) -> Iterator[Probe]:
    what = f"the queue {queue}"
    yield caller.attack(
        "grants.delete-queue", f"{what}, deleted", asks(ask.delete_queue(queue), (50, 41))
    )
    for exchange in declared.exchanges:
        more = f"{what}, bound to {exchange}"
        request = ask.bind(queue, exchange, STRANGER)
        yield caller.attack("grants.bind", more, asks(request, (50, 21)))
    for binding in declared.bindings:
        if binding.queue == queue:
            more = f"{what}, cut off from {binding.exchange} ({binding.key or 'all'})"
            request = ask.unbind(queue, binding.exchange, binding.key)
            yield caller.attack("grants.unbind", more, asks(request, (50, 51)))
