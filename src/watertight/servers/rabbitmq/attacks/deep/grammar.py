"""AMQP that nobody thought of: methods one after another, each of which knows whether it may be.

The first possibility is always the plainest. Where applications use the broker (``World``), what is
sent is sent in a transaction that nobody commits, and what may be read is only asked for.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from watertight.attack.choices import Choices
from watertight.servers.rabbitmq.attacks import frames
from watertight.servers.rabbitmq.attacks.deep import methods, names
from watertight.servers.rabbitmq.attacks.deep.oracle import REPLIES, World, stripped
from watertight.servers.rabbitmq.attacks.deep.raw import broken_content, raw
from watertight.servers.rabbitmq.attacks.dialect import (
    ACCESS_REFUSED,
    NOT_ALLOWED,
    NOT_FOUND,
    PRECONDITION_FAILED,
)
from watertight.servers.rabbitmq.attacks.examples import STRANGER

DENIED = frozenset({ACCESS_REFUSED, NOT_ALLOWED})
CHANNELS = (1, 2, 15)
"""Numbers of channels to attack on; the session agrees on 16."""
MOST_STEPS = 4
ODD_FIELDS = (b"V", b"F\x00\x00\x00\x00")
"""Nothing, and an empty table (section 4.2.1)."""
TRANSACTION, PLAIN, CONFIRMED = "transaction", "plain", "confirmed"
MODES = (TRANSACTION, PLAIN, CONFIRMED)
OLDER = (b"AMQP\x01\x01\x08\x00", b"AMQP\x01\x01\x00\x09", b"AMQP\x01\x01\x09\x01")
"""AMQP 0-8 and 0-9, in which most methods are what they are in 0-9-1 (``rabbit_reader``)."""


@dataclass(frozen=True, slots=True)
class Step:
    """What is sent, and whether it may be done."""

    what: str
    data: bytes
    may: bool
    no: frozenset[int] = DENIED
    """The reply codes by which it is refused."""
    sends: bool = False


@dataclass(frozen=True, slots=True)
class Sequence:
    """One attack: what the channel is first, and what is tried on it."""

    channel: int
    mode: str
    steps: tuple[Step, ...]
    header: bytes = frames.HEADER
    """The version of the protocol that its session speaks."""


@dataclass
class _Scene:
    """What is being generated."""

    choices: Choices
    world: World
    channel: int
    last: str = ""
    """The queue that an empty name means: the last one declared on the channel."""
    tags: int = field(default=1)

    def named(self, queue: str) -> tuple[str, frozenset[int]]:
        """Which queue is meant, and the codes of a refusal.

        A channel that was closed since has forgotten the last one: then nothing is judged.
        """
        return (queue, DENIED) if queue else (self.last, DENIED | {NOT_FOUND})

    def flag(self, one_in: int = 3) -> bool:
        """A bit that may be set."""
        return self.choices.rarely(one_in)

    def method(self, kind: tuple[int, int], *arguments: bytes | str) -> bytes:
        """A method on the channel."""
        return methods.method(self.channel, kind, *arguments)


def generate(choices: Choices, world: World) -> Sequence:
    """One sequence, of one step or a few."""
    mode = choices.one(MODES)
    scene = _Scene(choices, world, choices.one(CHANNELS) if choices.rarely(4) else CHANNELS[0])
    count = 1 + choices.below(MOST_STEPS)
    steps = tuple(choices.one(STEPS)(scene) for _ in range(count))
    if not world.expendable and any(step.sends for step in steps):
        mode = TRANSACTION  # judged all the same, and never delivered
    header = choices.one(OLDER) if choices.rarely(15) else frames.HEADER
    return Sequence(scene.channel, mode, steps, header)


# --- messages -------------------------------------------------------------------------------------


def _publish(scene: _Scene) -> Step:
    choices, world = scene.choices, scene.world
    exchange, key = names.exchange(choices, world), names.key(choices, world)
    said, told = _properties(scene)
    begin = scene.method(
        methods.PUBLISH,
        methods.RESERVED,
        exchange,
        key,
        methods.bits(choices.rarely(4), choices.rarely(20)),
    )
    body = json.dumps([world.caller.login.service, exchange, key]).encode()
    data, broken = begin + methods.content(scene.channel, said, body), ""
    if choices.rarely(12):
        broken, data, others = broken_content(choices, scene.channel, begin, said, body)
        told = "" if others else told
    what = f"publish to {exchange!r} with the key {key!r}{told and f' and {told}'}{broken}"
    no = DENIED | {PRECONDITION_FAILED} if "user_id" in told else DENIED
    may = world.may_publish(exchange, key) and not told
    return Step(what, data, may, no, sends=True)


def _properties(scene: _Scene) -> tuple[bytes, str]:
    """The property list, and what in it must be refused wherever it goes."""
    choices, world = scene.choices, scene.world
    said: dict[str, methods.Value | methods.Table] = {}
    told = ""
    if choices.rarely(3):
        headers, told = _headers(scene)
        said["headers"] = headers
    if choices.rarely(5):
        said["delivery_mode"] = choices.one((1, 2, 0, 255))
    if choices.rarely(8):
        said["priority"] = choices.one((0, 9, 255))
    if choices.rarely(6):
        said["reply_to"] = choices.one((names.queue(choices, world), REPLIES))
    if choices.rarely(6):
        said["expiration"] = choices.one(("60000", "0", "-1", "", "1e3", "99999999999999999999"))
    if choices.rarely(6):
        everybody = [world.user, *(world.user_of(c) for c in world.everybody), "guest", ""]
        said["user_id"] = user = choices.one(everybody)
        if user != world.user:
            told = f"user_id {user!r}"
    for name in ("content_type", "correlation_id", "message_id", "type", "app_id"):
        if choices.rarely(15):
            said[name] = choices.one((STRANGER, "", "\n", "x" * 255))
    return methods.properties(said), told


def _headers(scene: _Scene) -> tuple[methods.Table, str]:
    """Headers; CC and BCC are granted to nobody, whatever is in them (an array is what routes)."""
    choices, found, told = scene.choices, dict[str, methods.Value](), ""
    for _ in range(1 + choices.below(2)):
        name = choices.one(
            ("CC", "BCC", "cc", "x-death", "x-match", "x-cc", "x-delay", "x-opt-to", "\nCC", "Bcc")
        )
        key = names.key(choices, scene.world)
        values: tuple[methods.Value, ...] = ([key], [key, key], key, True, 7, *ODD_FIELDS)
        found[name] = choices.one(values)
        if name in ("CC", "BCC"):
            told = f"{name} {found[name]!r}"
    return found, told


def _get(scene: _Scene) -> Step:
    name = names.queue(scene.choices, scene.world)
    queue, no = scene.named(name)
    if scene.world.may_read(queue) and not scene.world.expendable:
        return _asked(scene, queue)
    unacknowledged = scene.flag()
    data = scene.method(methods.GET, methods.RESERVED, name, methods.bits(unacknowledged))
    return Step(f"get from {name!r}", data, scene.world.may_read(queue), no)


def _consume(scene: _Scene) -> Step:
    choices, world = scene.choices, scene.world
    name = names.queue(choices, world)
    if world.may_read(scene.named(name)[0]) and not world.expendable:
        name = REPLIES
    queue, no = scene.named(name)
    exclusive = scene.flag(4)
    arguments: dict[str, methods.Value] = {}
    first = False
    if choices.rarely(3):
        priority = choices.one((-1, 1, 100, 0, -(2**31), 2**31 - 1))
        arguments["x-priority"] = priority
        first = priority > 0
    if choices.rarely(8):
        arguments[choices.one(("x-cancel-on-ha-failover", "x-stream-offset", "x-x"))] = True
    may = (world.may_read(queue) or queue == REPLIES) and not exclusive and not first
    flags = methods.bits(scene.flag(), scene.flag(2), exclusive, scene.flag(6))
    tag = f"{STRANGER}-{scene.tags}" if not choices.rarely(8) else STRANGER
    scene.tags += 1
    data = scene.method(
        methods.CONSUME, methods.RESERVED, name, tag, flags, methods.table(arguments)
    )
    what = f"consume from {name!r}"
    what += " exclusively" * exclusive + f" with {arguments}" * bool(arguments)
    return Step(what, data, may, no)


# --- topology -------------------------------------------------------------------------------------


def _declare_queue(scene: _Scene) -> Step:
    choices, world = scene.choices, scene.world
    name = names.queue(choices, world)
    if choices.rarely(2):
        return _asked(scene, name)
    flags = methods.bits(*(False, scene.flag(), scene.flag(), scene.flag(), scene.flag(6)))
    said = methods.table(_arguments(scene, _QUEUE_ARGUMENTS, 2))
    data = scene.method((50, 10), methods.RESERVED, name, flags, said)
    # A queue with no name is asked first whether its type may be named by the broker.
    no = DENIED if stripped(name) else DENIED | {PRECONDITION_FAILED}
    if name.startswith(REPLIES):  # nothing is declared: it says whether somebody waits
        scene.last = stripped(name) if stripped(name) == REPLIES else scene.last
        return Step(f"declare {name!r}", data, may=True)
    return Step(f"declare the queue {name!r}", data, may=False, no=no)


def _asked(scene: _Scene, name: str) -> Step:
    """A passive declaration."""
    may = scene.world.may_ask_queue(name)
    flags = methods.bits(*(True, scene.flag(5), scene.flag(5), scene.flag(5), False))
    data = scene.method((50, 10), methods.RESERVED, name, flags, methods.table({}))
    if may:
        scene.last = stripped(name)
    return Step(f"ask for the queue {name!r}", data, may)


def _bind_queue(scene: _Scene) -> Step:
    choices, world = scene.choices, scene.world
    name, source = names.queue(choices, world), names.exchange(choices, world)
    key = names.key(choices, world)
    _, no = scene.named(name)
    bind = not choices.rarely(2)
    said = methods.table(_arguments(scene, (("x-match", "any"), ("x", 1)), 2))
    if not bind and not world.expendable:
        key = STRANGER  # of a binding that is not there
    nowait = methods.bits(scene.flag(6)) if bind else b""
    kind, what = ((50, 20), "bind") if bind else ((50, 50), "unbind")
    data = scene.method(kind, methods.RESERVED, name, source, key, nowait, said)
    return Step(f"{what} the queue {name!r} to {source!r} by {key!r}", data, may=False, no=no)


def _empty(scene: _Scene) -> Step:
    name = names.queue(scene.choices, scene.world)
    queue, no = scene.named(name)
    purge = not scene.choices.rarely(2)
    if purge and not scene.world.expendable and scene.world.may_read(stripped(queue)):
        purge = False  # messages would be lost if it worked
    if purge:
        data = scene.method((50, 30), methods.RESERVED, name, methods.bits(scene.flag(6)))
        return Step(f"purge {name!r}", data, may=False, no=no)
    careful = not scene.world.expendable
    flags = methods.bits(careful or scene.flag(), careful or scene.flag(), scene.flag(6))
    data = scene.method((50, 40), methods.RESERVED, name, flags)
    return Step(f"delete the queue {name!r}", data, may=False, no=no)


def _declare_exchange(scene: _Scene) -> Step:
    choices, world = scene.choices, scene.world
    name = names.exchange(choices, world)
    passive = choices.rarely(2)
    kind = choices.one(("fanout", "topic", "direct", "headers", "x-none", ""))
    kind = "fanout" if passive and kind in ("x-none", "") else kind
    said = {} if passive else _arguments(scene, _EXCHANGE_ARGUMENTS, 2)
    flags = methods.bits(*(passive, scene.flag(), scene.flag(), scene.flag(), scene.flag(6)))
    data = scene.method((40, 10), methods.RESERVED, name, kind, flags, methods.table(said))
    may = passive and world.may_ask_exchange(name)
    what = "ask for" if passive else "declare"
    return Step(f"{what} the exchange {name!r}{f' with {said}' * bool(said)}", data, may)


def _bind_exchange(scene: _Scene) -> Step:
    choices, world = scene.choices, scene.world
    one, other = names.exchange(choices, world), names.exchange(choices, world)
    key, how = names.key(choices, world), choices.below(3)
    if how == 2:
        careful = not world.expendable or scene.flag()
        data = scene.method((40, 20), methods.RESERVED, one, methods.bits(careful, scene.flag(6)))
        return Step(f"delete the exchange {one!r}", data, may=False)
    kind, what = ((40, 30), "bind") if how == 0 else ((40, 40), "unbind")
    flags, said = methods.bits(scene.flag(6)), methods.table({})
    data = scene.method(kind, methods.RESERVED, one, other, key, flags, said)
    return Step(f"{what} the exchange {one!r} to {other!r} by {key!r}", data, may=False)


_QUEUE_ARGUMENTS: tuple[tuple[str, methods.Value], ...] = (
    ("x-dead-letter-exchange", ""),
    ("x-dead-letter-routing-key", STRANGER),
    ("x-message-ttl", 0),
    ("x-single-active-consumer", True),
    ("x-expires", 1),
    ("x-max-length", 0),
    ("x-queue-type", "quorum"),
    ("x-queue-type", "stream"),
    ("x-queue-master-locator", "min-masters"),
    ("x-max-priority", 255),
    ("x-overflow", "reject-publish-dlx"),
)
_EXCHANGE_ARGUMENTS: tuple[tuple[str, methods.Value], ...] = (
    ("alternate-exchange", "amq.fanout"),
    ("alternate-exchange", ""),
    ("hash-header", "x"),
)


def _arguments(
    scene: _Scene, known: tuple[tuple[str, methods.Value], ...], most: int
) -> Mapping[str, methods.Value]:
    """Some of these; what names an exchange names any."""
    found = dict(scene.choices.some(known, most))
    for name in ("x-dead-letter-exchange", "alternate-exchange"):
        if name in found and scene.choices.rarely(2):
            found[name] = names.exchange(scene.choices, scene.world)
    return found


# --- a channel's own affairs ----------------------------------------------------------------------


def _settle(scene: _Scene) -> Step:
    """Acknowledging: in the product nothing was taken, so every tag is unknown."""
    tag = scene.choices.one((1, 0, 2, 2**63)).to_bytes(8, "big")
    some = methods.bits(scene.flag(), scene.flag(2))
    kind, data = scene.choices.one(
        (
            ("nack", scene.method((60, 120), tag, some)),
            ("reject", scene.method((60, 90), tag, methods.bits(scene.flag(2)))),
            ("ack", scene.method((60, 80), tag, methods.bits(scene.flag()))),
            ("recover", scene.method((60, 110), b"\x01")),
            ("recover without requeue", scene.method((60, 110), b"\x00")),
            ("recover, told nothing", scene.method((60, 100), b"\x01")),
        )
    )
    return Step(kind, data, may=True)


def _transact(scene: _Scene) -> Step:
    ends = [("rollback", (90, 30)), ("select", (90, 10))]
    if scene.world.expendable:
        ends.insert(0, ("commit", (90, 20)))
    what, kind = scene.choices.one(ends)
    if scene.choices.rarely(4):
        return Step("confirm.select", scene.method((85, 10), methods.bits(scene.flag())), may=True)
    return Step(f"tx.{what}", scene.method(kind), may=True)


def _ask(scene: _Scene) -> Step:
    """What asks nothing of anybody."""
    counts = scene.choices.one((b"\x00\x01", b"\x00\x00", b"\xff\xff"))
    what, data = scene.choices.one(
        (
            ("cancel", scene.method((60, 30), f"{STRANGER}-1", methods.bits(scene.flag()))),
            ("qos", scene.method((60, 10), b"\0" * 4, counts, methods.bits(scene.flag()))),
            ("flow off", scene.method((20, 20), b"\x00")),
            ("access.request", scene.method((30, 10), "/", b"\x1f")),
            ("no such method", scene.method((60, 255))),
            ("no such class", scene.method((61, 10))),
        )
    )
    return Step(what, data, may=True)


def _raw(scene: _Scene) -> Step:
    what, data, may = raw(scene.choices, scene.channel)
    return Step(what, data, may)


STEPS: tuple[Callable[[_Scene], Step], ...] = (
    _publish,
    _publish,
    _publish,
    _consume,
    _get,
    _declare_queue,
    _declare_queue,
    _bind_queue,
    _empty,
    _declare_exchange,
    _bind_exchange,
    _settle,
    _transact,
    _ask,
    _raw,
)
