"""One service makes another receive what no grant explains: each pair that shares a broker.

The one is in its own session; whatever route to a queue of the other's there may be, it tries. A
message is judged within a transaction, and never delivered: the other's program must not notice.
"""

from collections.abc import Iterator, Sequence

from watertight.attack.probe import Observation, Outcome, Probe, not_run, refused, served
from watertight.attack.session import Act
from watertight.attack.wire import Wire
from watertight.servers.rabbitmq.attacks import dialect as ask
from watertight.servers.rabbitmq.attacks import frames
from watertight.servers.rabbitmq.attacks.dialect import act
from watertight.servers.rabbitmq.attacks.examples import STRANGER, example, may_publish_to, overlap
from watertight.servers.rabbitmq.attacks.sessions import Caller, sends
from watertight.servers.rabbitmq.declaration import SEND, TOPIC, Binding, Broker, Grants


def probes(callers: Sequence[Caller], declared: Broker) -> Iterator[Probe]:
    """One for each ordered pair of which the second reads what the first may not reach."""
    for one in callers:
        for other in callers:
            queues = [q for q in other.granted.consume if not explained(one.granted, declared, q)]
            if one is not other and queues:
                name = other.login.service
                what = f"anything that {name} receives, by any route to {', '.join(queues)}"
                yield one.attack("pairs.reach", what, tried(routes(one.granted, declared, queues)))


def explained(granted: Grants, declared: Broker, queue: str) -> bool:
    """Whether these grants let their holder put a message into the queue."""
    return queue in granted.send or any(
        _leads(granted, declared, binding)
        for binding in declared.bindings
        if binding.queue == queue
    )


def _leads(granted: Grants, declared: Broker, binding: Binding) -> bool:
    if binding.exchange not in granted.publish:
        return False
    patterns = granted.publish[binding.exchange]
    return declared.exchanges[binding.exchange] != TOPIC or any(
        overlap(pattern, binding.key) for pattern in patterns
    )


def routes(granted: Grants, declared: Broker, queues: Sequence[str]) -> dict[str, bytes]:
    """What is tried, and the message: each by every exchange, with every header that routes."""
    found: dict[str, bytes] = {}
    for queue in queues:
        found[f"the default exchange, key {queue}"] = ask.publish("", queue)
        bound = [b for b in declared.bindings if b.queue == queue]
        for binding in bound:
            what = f"{binding.exchange}, key {example(binding.key)}"
            found[what] = ask.publish(binding.exchange, example(binding.key))
        keys = dict.fromkeys([queue, *(example(b.key) for b in bound)])
        found[f"{SEND}{queue}, key {queue}"] = ask.publish(f"{SEND}{queue}", queue)
        for exchange in ("", *may_publish_to(granted)):
            own = _own_key(granted, exchange)
            for header in ("CC", "BCC"):
                headers = frames.array(header, *keys)
                found[f"{exchange}, key {own}, {header} {[*keys]}"] = ask.publish(
                    exchange, own, headers=headers
                )
    return found


def _own_key(granted: Grants, exchange: str) -> str:
    patterns = granted.publish.get(exchange, ())
    return example(patterns[0]) if patterns else exchange.removeprefix(SEND) or STRANGER


def tried(messages: dict[str, bytes]) -> Act:
    """All of them within one session; the first that the broker takes is told."""

    async def ask_all(wire: Wire) -> Observation:
        for what, message in messages.items():
            seen = await sends(message)(wire)
            if seen.outcome is not Outcome.REFUSED:
                return served(f"{what}: {seen.detail}") if seen.outcome is Outcome.SERVED else seen
            again = await act(wire, ask.OPEN, frames.CHANNEL_OPEN_OK)
            if again.outcome is not Outcome.SERVED:
                return not_run(f"after {what}, no channel: {again.detail}")
        return refused(f"all {len(messages)} routes")

    return ask_all
