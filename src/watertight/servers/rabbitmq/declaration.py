"""What a declaration says of a RabbitMQ broker: its topology, and what channels grant.

Read by both sides, as the model is: by the compiler, and by the probes that attack its work.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field, PlainValidator, WithJsonSchema

from watertight.enforcers.resource import channels_to, keys
from watertight.model import codes
from watertight.model.declaration import COUNT, SIZE, TEXT, Shape
from watertight.model.document import DocumentPath, quoted
from watertight.model.nearest import did_you_mean, one_of
from watertight.model.rules import Flaw
from watertight.model.system import Channel, Resource, System
from watertight.model.values import Malformed, parse_size
from watertight.servers.flaws import grants_nothing, repeated

KIND = "rabbitmq"
MAX_COUNT = 65_535
MAX_NAME_BYTES = 255
"""A short string of AMQP 0-9-1 (section 4.2.5.3)."""
TOPIC = "topic"
EXCHANGES = ("direct", "fanout", TOPIC)
ANY = "any"
"""Every routing key: all that RabbitMQ can say of an exchange that is no topic exchange."""
_NAME = re.compile(r"[A-Za-z0-9_.:-]+")
_KEY = re.compile(r"([A-Za-z0-9_:-]+|\*)(\.([A-Za-z0-9_:-]+|\*))*(\.#)?|#")
CONNECTIONS, CHANNELS = 50, 250
"""What one service may have open at a broker, unless stated."""
CHANNELS_A_CONNECTION = 128
"""Of the client libraries, those that pool channels keep 25."""
QUEUE_BYTES = 1 << 30
MESSAGE_BYTES = 16 << 20
"""RabbitMQ's own limit since 4.0; before, 128 MiB."""
MAX_MESSAGE_BYTES = 512 << 20
"""RabbitMQ takes no larger limit (rabbitmq.com/docs/configure)."""
SEND = "to."
"""What the exchange is called that leads to one queue and nowhere else."""

Keys: TypeAlias = tuple[str, ...]


def _name(value: Any) -> str:
    """The name of a queue or exchange."""
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise Malformed(
            codes.RESOURCE_NAME,
            f"{quoted(value)} is not a name for a queue or exchange.",
            "Letters, digits and `_ . : -`.",
        )
    if len(value.encode()) > MAX_NAME_BYTES - len(SEND):
        raise Malformed(
            codes.RESOURCE_NAME,
            f"The name {quoted(value)} is longer than AMQP can say.",
            f"At most {MAX_NAME_BYTES - len(SEND)} bytes.",
        )
    if value.startswith(("amq.", SEND)):
        prefix = value[: value.index(".") + 1]
        raise Malformed(
            codes.RESOURCE_NAME,
            f"Names that begin with `{prefix}` are "
            + ("the broker's own." if prefix == "amq." else "those of our exchanges to one queue."),
            "Choose another name.",
        )
    return value


def _exchange_type(value: Any) -> str:
    if value not in EXCHANGES:
        raise Malformed(
            codes.BAD_CHOICE,
            f"{quoted(value)} is no type of exchange here; allowed: {one_of(EXCHANGES)}.",
            did_you_mean(str(value), EXCHANGES),
        )
    return str(value)


def _routing_key(value: Any) -> str:
    """Words between dots; `*` is one word, a last `#` any number of them."""
    if not isinstance(value, str) or not _KEY.fullmatch(value) or len(value) > MAX_NAME_BYTES:
        raise Malformed(
            codes.RESOURCE_GRANT,
            f"{quoted(value)} is not a pattern of routing keys.",
            "For example `orders.placed`, `orders.*` or `orders.#`.",
        )
    return value


def _routing_keys(value: Any) -> Keys:
    if value == ANY:
        return ()
    if not isinstance(value, list) or not value:
        raise Malformed(
            codes.RESOURCE_GRANT,
            f"{quoted(value)} does not say which routing keys.",
            f"Write a list of them; for an exchange that is no topic exchange, `{ANY}`.",
        )
    return tuple(_routing_key(key) for key in value)


def _count(value: Any) -> int:
    if type(value) is not int or not 0 < value <= MAX_COUNT:
        raise Malformed(
            codes.RESOURCE_KEY,
            f"{quoted(value)} is not a number of connections or channels.",
            f"Write a whole number from 1 to {MAX_COUNT}.",
        )
    return value


def _message_bytes(value: Any) -> int:
    size = parse_size(value)
    if size > MAX_MESSAGE_BYTES:
        raise Malformed(
            codes.BAD_SIZE, f"{quoted(value)} is more than RabbitMQ takes.", "At most `512MiB`."
        )
    return size


Name = Annotated[str, PlainValidator(_name), WithJsonSchema(TEXT)]
Count = Annotated[int, PlainValidator(_count), WithJsonSchema(COUNT)]
MessageSize = Annotated[int, PlainValidator(_message_bytes), WithJsonSchema(SIZE)]
RoutingKey = Annotated[str, PlainValidator(_routing_key), WithJsonSchema(TEXT)]
RoutingKeys = Annotated[
    Keys,
    PlainValidator(_routing_keys),
    WithJsonSchema({"anyOf": [{"const": ANY}, {"type": "array", "items": TEXT}]}),
]
ExchangeType = Annotated[
    str, PlainValidator(_exchange_type), WithJsonSchema({"enum": list(EXCHANGES)})
]


class BindingKeys(Shape):
    """What an exchange passes on to a queue."""

    queue: Name
    """Where it leads."""
    exchange: Name
    """Where it begins."""
    keys: list[RoutingKey] = Field(default=[])
    """The routing keys; none for a fanout exchange."""


class BrokerKeys(Shape):
    """A RabbitMQ broker: one virtual host with the resource's name."""

    queues: list[Name] = Field(default=[])
    """Durable queues."""
    exchanges: dict[
        Name,
        ExchangeType,
    ] = Field(default={})
    """Durable exchanges, by name: `direct`, `fanout` or `topic`."""
    bindings: list[BindingKeys] = Field(default=[])
    """Which exchange leads to which queue."""
    max_queue_size: Annotated[int, PlainValidator(parse_size), WithJsonSchema(SIZE)] = QUEUE_BYTES
    """How much a queue holds; what is published beyond it is refused. 1GiB unless stated."""
    max_message_size: MessageSize = MESSAGE_BYTES
    """The largest message; 16MiB unless stated."""


class ChannelKeys(Shape):
    """What a service may do at a broker."""

    publish: dict[
        str,
        RoutingKeys,
    ] = Field(default={})
    """Exchange → routing keys (of a topic exchange), or `any`."""
    send: list[str] = Field(default=[])
    """The queues that it may send to, each through the exchange `to.QUEUE` with the queue's
    name as the routing key."""
    consume: list[str] = Field(default=[])
    """The queues that it may read."""
    connections: Count = CONNECTIONS
    """How many connections the service may have open at once; 50 unless stated."""
    channels: Count = CHANNELS
    """How many AMQP channels, over all its connections; 250 unless stated."""


@dataclass(frozen=True, slots=True)
class Binding:
    """One way from an exchange to a queue."""

    exchange: str
    queue: str
    key: str


@dataclass(frozen=True, slots=True)
class Broker:
    """What one resource says."""

    queues: tuple[str, ...] = ()
    exchanges: Mapping[str, str] = field(default_factory=dict)
    bindings: tuple[Binding, ...] = ()
    queue_bytes: int = QUEUE_BYTES
    message_bytes: int = MESSAGE_BYTES


@dataclass(frozen=True, slots=True)
class Grants:
    """What one channel says. ``publish``: exchange → patterns; empty: any routing key."""

    publish: Mapping[str, Keys] = field(default_factory=dict)
    send: tuple[str, ...] = ()
    consume: tuple[str, ...] = ()
    connections: int = CONNECTIONS
    channels: int = CHANNELS


def broker(resource: Resource) -> Broker:
    """What a resource that passed :func:`check` says. Raises ValueError on what it refuses."""
    wanted, flaws = keys(BrokerKeys, (), resource.options)
    if wanted is None:
        raise ValueError("; ".join(f.message for f in flaws))
    return _broker(wanted)


def _broker(wanted: BrokerKeys) -> Broker:
    bindings = (
        Binding(b.exchange, b.queue, key) for b in wanted.bindings for key in (b.keys or [""])
    )
    return Broker(
        tuple(wanted.queues),
        dict(wanted.exchanges),
        tuple(bindings),
        wanted.max_queue_size,
        wanted.max_message_size,
    )


def grants(channel: Channel) -> Grants:
    """What a channel that passed :func:`check` says. Raises ValueError on what it refuses."""
    wanted, flaws = keys(ChannelKeys, (), channel.options)
    if wanted is None:
        raise ValueError("; ".join(f.message for f in flaws))
    return Grants(
        dict(wanted.publish),
        tuple(wanted.send),
        tuple(wanted.consume),
        wanted.connections,
        wanted.channels,
    )


def check(system: System, resource: Resource) -> Iterator[Flaw]:
    """What is wrong with the resource's own keys, and with the channels to it."""
    path: DocumentPath = ("resources", resource.name)
    wanted, flaws = keys(BrokerKeys, path, resource.options)
    yield from flaws
    found = _broker(wanted) if wanted else None
    if wanted is not None:
        yield from repeated((*path, "queues"), wanted.queues)
        yield from _bindings(path, wanted)
    for where, channel in channels_to(system, resource.name):
        granted, flaws = keys(ChannelKeys, where, channel.options)
        yield from flaws
        if granted is not None and found is not None:
            yield from _channel(where, channel, granted, found)


def _bindings(path: DocumentPath, wanted: BrokerKeys) -> Iterator[Flaw]:
    for number, binding in enumerate(wanted.bindings):
        where = (*path, "bindings", number)
        ends = (
            ("queue", binding.queue, wanted.queues),
            ("exchange", binding.exchange, wanted.exchanges),
        )
        for what, name, known in ends:
            if name not in known:
                yield _unknown((*where, what), what, name, list(known), codes.RESOURCE_KEY)
        kind = wanted.exchanges.get(binding.exchange)
        if kind == "direct" and any("*" in key or "#" in key for key in binding.keys):
            yield Flaw(
                codes.RESOURCE_KEY,
                (*where, "keys"),
                f"{quoted(binding.exchange)} is a direct exchange: it knows no patterns.",
                "Name the routing keys, or make it a topic exchange.",
                on_key=True,
            )
        if (kind == "fanout") != (not binding.keys) and kind is not None:
            yield Flaw(
                codes.RESOURCE_KEY,
                where,
                f"{quoted(binding.exchange)} is a {kind} exchange: it "
                + ("looks at no routing key." if kind == "fanout" else "needs routing keys."),
                "Delete `keys`." if kind == "fanout" else "Add `keys`.",
            )


def _channel(
    path: DocumentPath, channel: Channel, wanted: ChannelKeys, found: Broker
) -> Iterator[Flaw]:
    if not (wanted.publish or wanted.send or wanted.consume):
        yield grants_nothing(path, channel, "Give it `publish`, `send` or `consume`.")
    for name, patterns in wanted.publish.items():
        where = (*path, "publish", name)
        kind = found.exchanges.get(name)
        if kind is None:
            yield _unknown(where, "exchange", name, list(found.exchanges), codes.RESOURCE_GRANT)
        elif (kind == TOPIC) != bool(patterns):
            yield Flaw(
                codes.RESOURCE_GRANT,
                where,
                f"{quoted(name)} is a {kind} exchange: "
                + (
                    "which routing keys may be published must be said."
                    if kind == TOPIC
                    else "RabbitMQ cannot hold a publisher to routing keys there."
                ),
                "List them; `#` is all." if kind == TOPIC else f"Write `{name}: {ANY}`.",
            )
    for key, listed in (("send", wanted.send), ("consume", wanted.consume)):
        yield from repeated((*path, key), listed)
        for number, name in enumerate(listed):
            if name not in found.queues:
                yield _unknown(
                    (*path, key, number), "queue", name, found.queues, codes.RESOURCE_GRANT
                )


def _unknown(path: DocumentPath, what: str, name: str, known: Sequence[str], code: str) -> Flaw:
    return Flaw(
        code,
        path,
        f"There is no {what} {quoted(name)}.",
        did_you_mean(name, known) or f"Declare it under `{what}s` of the resource.",
    )


Permission: TypeAlias = Literal["configure", "write", "read"]
