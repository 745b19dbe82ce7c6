"""What a declaration says of a Kafka broker: its topics, and what channels grant.

Read by both sides, as the model is: by the compiler, and by the probes that attack its work.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import Field, PlainValidator, WithJsonSchema

from watertight.enforcers.resource import channels_to, keys
from watertight.model import codes
from watertight.model.declaration import AGE, COUNT, SIZE, Shape
from watertight.model.document import DocumentPath, quoted
from watertight.model.findings import Severity
from watertight.model.nearest import did_you_mean
from watertight.model.rules import Flaw
from watertight.model.system import Channel, Resource, System
from watertight.model.values import Malformed, parse_size

KIND = "kafka"
MAX_NAME = 249
"""Of a topic (org.apache.kafka.common.internals.Topic)."""
_NAME = re.compile(r"[A-Za-z0-9._-]+")
_AGE = re.compile(r"([0-9]{1,9})([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
MAX_AGE_SECONDS = 36_500 * 86_400
MAX_PARTITIONS = 1_000
"""Of one topic: one node holds them all, and each has files of its own."""
WEEK_SECONDS = 7 * 86_400
PARTITION_BYTES = 1 << 30
MESSAGE_BYTES = 1 << 20
MAX_MESSAGE_BYTES = 64 << 20
"""A request is held whole in the broker's memory."""
CONNECTIONS, MAX_CONNECTIONS = 50, 10_000
RATE_BYTES = 64 << 20


def _name(value: Any) -> str:
    """The name of a topic."""
    if not isinstance(value, str) or not _NAME.fullmatch(value) or value in (".", ".."):
        raise Malformed(
            codes.RESOURCE_NAME,
            f"{quoted(value)} is not a name for a topic.",
            "Letters, digits and `. _ -`.",
        )
    if len(value) > MAX_NAME:
        raise Malformed(
            codes.RESOURCE_NAME,
            f"The name {quoted(value)} is longer than Kafka can say.",
            f"At most {MAX_NAME} characters.",
        )
    if value.startswith("__"):
        raise Malformed(
            codes.RESOURCE_NAME,
            "Names that begin with `__` are the broker's own.",
            "Choose another name.",
        )
    return value


def _number(value: Any, most: int, what: str) -> int:
    if type(value) is not int or not 0 < value <= most:
        raise Malformed(
            codes.RESOURCE_KEY,
            f"{quoted(value)} is not a number of {what}.",
            f"Write a whole number from 1 to {most}.",
        )
    return value


def _partitions(value: Any) -> int:
    return _number(value, MAX_PARTITIONS, "partitions")


def _connections(value: Any) -> int:
    return _number(value, MAX_CONNECTIONS, "connections")


def _message_bytes(value: Any) -> int:
    size = parse_size(value)
    if size > MAX_MESSAGE_BYTES:
        raise Malformed(
            codes.BAD_SIZE, f"{quoted(value)} is more than a broker can hold.", "At most `64MiB`."
        )
    return size


def _age(value: Any) -> int:
    """Seconds, also of many days."""
    match = _AGE.fullmatch(value) if isinstance(value, str) else None
    seconds = int(match[1]) * _SECONDS[match[2]] if match else 0
    if not 0 < seconds <= MAX_AGE_SECONDS:
        raise Malformed(
            codes.BAD_DURATION,
            f"{quoted(value)} is not how long messages can be kept.",
            "Write a whole number above 0 and `s`, `m`, `h` or `d`, up to `36500d`: `7d`.",
        )
    return seconds


Size = Annotated[int, PlainValidator(parse_size), WithJsonSchema(SIZE)]
MessageSize = Annotated[int, PlainValidator(_message_bytes), WithJsonSchema(SIZE)]


class TopicKeys(Shape):
    """One topic. What nobody has read goes, too, once it is too old or too much."""

    partitions: Annotated[int, PlainValidator(_partitions), WithJsonSchema(COUNT)] = 1
    """How many readers of one group can share it; 1 unless stated. It can grow, not shrink."""
    retention: Annotated[int, PlainValidator(_age), WithJsonSchema(AGE)] = WEEK_SECONDS
    """How long messages are kept; seven days unless stated."""
    retention_size: Size = PARTITION_BYTES
    """How much of each partition is kept; 1GiB unless stated."""
    compacted: bool = False
    """Whether the last message of each key is kept for good, and only that; neither limit above
    holds then."""
    max_message_size: MessageSize = MESSAGE_BYTES
    """The largest batch of messages; 1MiB unless stated."""


class BrokerKeys(Shape):
    """A Kafka broker: one node, that is its own controller."""

    topics: dict[Annotated[str, PlainValidator(_name)], TopicKeys] = Field(default={})
    """The topics, by name: `{}`, or with keys of a topic."""


class ChannelKeys(Shape):
    """What a service may do at a broker."""

    publish: list[str] = Field(default=[])
    """The topics that it may write to."""
    consume: list[str] = Field(default=[])
    """The topics that it may read, in groups that are called as the service is, or as the service
    is with a dot and more: `mailer`, `mailer.nightly`."""
    transactions: bool = False
    """Whether it may write in transactions, under ids that are called as its groups are."""
    publish_rate: Size = RATE_BYTES
    """How much it may write each second before the broker makes it wait; 64MiB unless stated."""
    consume_rate: Size = RATE_BYTES
    """How much it may read each second before the broker makes it wait; 64MiB unless stated."""
    connections: Annotated[int, PlainValidator(_connections), WithJsonSchema(COUNT)] = CONNECTIONS
    """How many connections the service may have open at once; 50 unless stated."""


@dataclass(frozen=True, slots=True)
class Topic:
    """What one topic is."""

    partitions: int
    retention_seconds: int
    partition_bytes: int
    compacted: bool
    message_bytes: int


@dataclass(frozen=True, slots=True)
class Broker:
    """What one resource says."""

    topics: Mapping[str, Topic] = field(default_factory=dict)

    @property
    def message_bytes(self) -> int:
        """The largest batch of any topic."""
        return max((t.message_bytes for t in self.topics.values()), default=MESSAGE_BYTES)


@dataclass(frozen=True, slots=True)
class Grants:
    """What one channel says."""

    publish: tuple[str, ...] = ()
    consume: tuple[str, ...] = ()
    transactions: bool = False
    publish_rate: int = RATE_BYTES
    consume_rate: int = RATE_BYTES
    connections: int = CONNECTIONS


def broker(resource: Resource) -> Broker:
    """What a resource that passed :func:`check` says. Raises ValueError on what it refuses."""
    wanted, flaws = keys(BrokerKeys, (), resource.options)
    if wanted is None:
        raise ValueError("; ".join(f.message for f in flaws))
    return Broker(
        {
            name: Topic(
                topic.partitions,
                topic.retention,
                topic.retention_size,
                topic.compacted,
                topic.max_message_size,
            )
            for name, topic in wanted.topics.items()
        }
    )


def grants(channel: Channel) -> Grants:
    """What a channel that passed :func:`check` says. Raises ValueError on what it refuses."""
    wanted, flaws = keys(ChannelKeys, (), channel.options)
    if wanted is None:
        raise ValueError("; ".join(f.message for f in flaws))
    return Grants(
        tuple(wanted.publish),
        tuple(wanted.consume),
        wanted.transactions,
        wanted.publish_rate,
        wanted.consume_rate,
        wanted.connections,
    )


def own_name(service: str, name: str) -> bool:
    """Whether a group or a transactional id is the service's: ``mailer``, ``mailer.…``.

    No service's name has a dot, so none begins as another's does.
    """
    return name == service or name.startswith(f"{service}.")


def check(system: System, resource: Resource) -> Iterator[Flaw]:
    """What is wrong with the resource's own keys, and with the channels to it."""
    path: DocumentPath = ("resources", resource.name)
    wanted, flaws = keys(BrokerKeys, path, resource.options)
    yield from flaws
    if wanted is not None:
        yield from _alike((*path, "topics"), list(wanted.topics))
    for where, channel in channels_to(system, resource.name):
        granted, flaws = keys(ChannelKeys, where, channel.options)
        yield from flaws
        if granted is not None and wanted is not None:
            yield from _channel(where, channel, granted, list(wanted.topics))


def _alike(path: DocumentPath, names: Sequence[str]) -> Iterator[Flaw]:
    """A broker's metrics call `a.b` and `a_b` the same, so it takes no two of them."""
    for number, name in enumerate(names):
        before = [n for n in names[:number] if n.replace(".", "_") == name.replace(".", "_")]
        if before:
            yield Flaw(
                codes.RESOURCE_NAME,
                (*path, name),
                f"{quoted(name)} and {quoted(before[0])} are one name to Kafka.",
                "Use dots or underscores, and not both.",
                on_key=True,
            )


def _channel(
    path: DocumentPath, channel: Channel, wanted: ChannelKeys, topics: Sequence[str]
) -> Iterator[Flaw]:
    if not (wanted.publish or wanted.consume):
        yield Flaw(
            codes.GRANTS_NOTHING,
            path,
            f"The channel `{channel.name}` grants nothing: {quoted(channel.source)} may log in, "
            "and that is all.",
            "Give it `publish` or `consume`.",
            Severity.WARNING,
        )
    if wanted.transactions and not wanted.publish:
        yield Flaw(
            codes.RESOURCE_GRANT,
            (*path, "transactions"),
            f"{quoted(channel.source)} may write nothing, in no transaction either.",
            "Give it `publish`, or delete `transactions`.",
            on_key=True,
        )
    for key, listed in (("publish", wanted.publish), ("consume", wanted.consume)):
        for number, name in enumerate(listed):
            if name in listed[:number]:
                yield Flaw(
                    codes.DUPLICATE_GRANT,
                    (*path, key, number),
                    f"{quoted(name)} stands here already.",
                    "Delete one of them.",
                )
            elif name not in topics:
                yield Flaw(
                    codes.RESOURCE_GRANT,
                    (*path, key, number),
                    f"There is no topic {quoted(name)}.",
                    did_you_mean(name, topics) or "Declare it under `topics` of the resource.",
                )
