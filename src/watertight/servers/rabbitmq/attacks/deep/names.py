"""Names for generated attacks: those that are there, and what looks like them."""

from collections.abc import Sequence

from watertight.attack.choices import Choices
from watertight.servers.rabbitmq.attacks.deep.oracle import REPLIES, World
from watertight.servers.rabbitmq.attacks.examples import STRANGER, example
from watertight.servers.rabbitmq.declaration import MAX_NAME_BYTES

BUILT_IN = (
    *("amq.topic", "amq.fanout", "amq.direct", "amq.headers", "amq.match"),
    *("amq.rabbitmq.trace", "amq.rabbitmq.log", "amq.default"),
)
LINE_ENDS = ("\n", "\r", "\r\n")
ODD = (
    *("\n", " ", "\t", "x", "\u00e9"),
    *(".", "*", "#", "$", "^", "|", "\0", "\\E", "\x7f"),
)
WORDS = (STRANGER, "*", "#", "", "\u00e9", "\n", "amq", "a.b")


def exchange(choices: Choices, world: World) -> str:
    """Of an exchange: one of the caller's own, or any."""
    own = [*world.caller.granted.publish, *(f"to.{q}" for q in world.caller.granted.send)]
    every = [*world.exchanges, "", *BUILT_IN, *world.declared.queues, STRANGER]
    return _near(choices, own if own and not choices.rarely(2) else every)


def queue(choices: Choices, world: World) -> str:
    """Of a queue: one of the caller's own, or any."""
    own = world.caller.granted.consume
    odd = [REPLIES, f"{REPLIES}.{STRANGER}", "amq.gen-x", "", STRANGER]
    every = [*world.declared.queues, *odd, *world.declared.exchanges]
    return _near(choices, own if own and not choices.rarely(2) else every)


def _near(choices: Choices, named: Sequence[str]) -> str:
    """One of these, now and then changed: most often at its end, most often by a line end."""
    name = choices.one(named)
    if not choices.rarely(4):
        return name
    at, odd = choices.below(len(name) + 1), choices.one(LINE_ENDS if choices.rarely(2) else ODD)
    added = (name + odd, name + odd, odd + name, name[:at] + odd + name[at:])
    others = (name.swapcase(), name[:-1], name + "x" * MAX_NAME_BYTES)
    return fitting(choices.one((*added, *others)))


def fitting(name: str) -> str:
    """As much of it as AMQP can say."""
    return name.encode()[:MAX_NAME_BYTES].decode(errors="ignore")


def key(choices: Choices, world: World) -> str:
    """A routing key: one that somebody may use or that something is bound by, changed or not."""
    granted = [p for caller in _everybody(world) for keys in caller for p in keys]
    bound = [binding.key for binding in world.declared.bindings]
    pattern = choices.one([*granted, *bound, *world.declared.queues, STRANGER])
    words = (pattern if choices.rarely(8) else example(pattern)).split(".")
    for _ in range(choices.below(3)):
        at, how = choices.below(len(words)), choices.below(5)
        if how == 0:
            words[at] = choices.one(WORDS)
        elif how == 1:
            words.insert(at, choices.one(WORDS))
        elif how == 2 and len(words) > 1:
            del words[at]
        elif how == 3:
            words[at] = words[at].swapcase()
        else:
            words[at] = words[at] + choices.one(ODD)
    return fitting(".".join(words))


def _everybody(world: World) -> list[list[tuple[str, ...]]]:
    """The patterns of each caller, the attacker's own first."""
    one = (world.caller, *(c for c in world.everybody if c is not world.caller))
    return [list(caller.granted.publish.values()) for caller in one]
