"""What a declaration says of a NATS server: its own keys, and what channels grant.

Read by both sides, as the model is: by the compiler, and by the probes that attack its work.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, PlainValidator, WithJsonSchema

from watertight.enforcers.resource import keys
from watertight.model import codes
from watertight.model.declaration import AGE, SIZE, TEXT, Shape
from watertight.model.document import DocumentPath, quoted
from watertight.model.rules import Flaw
from watertight.model.system import Channel, Resource, System
from watertight.servers.nats.buckets import named, stream_of, subjects_of
from watertight.servers.nats.subjects import common, overlap
from watertight.servers.nats.values import (
    GIB,
    Subject,
    parse_age,
    parse_bucket_name,
    parse_minimum_tls,
    parse_payload,
    parse_size,
    parse_stream_name,
    whole_number,
)

KIND = "nats"
MOST_PENDING_BYTES = 16 << 20
USUAL_CONNECTIONS = 256
"""Four services with the connections that a channel has by default."""
MAX_HISTORY = 64
"""KeyValueMaxHistory in every client."""
CONNECTIONS, MAX_CONNECTIONS = 64, 10_000
MAX_MESSAGES = 1_000_000_000
SUBSCRIPTIONS, MAX_SUBSCRIPTIONS = 1024, 1_000_000


MinimumTLS = Annotated[
    str,
    PlainValidator(parse_minimum_tls),
    WithJsonSchema({"enum": ["1.2", "1.3", 1.2, 1.3]}),  # a number without quotes
]
Kept = Annotated[Any, WithJsonSchema({"type": ["array", "object"], "items": TEXT})]
"""Subjects, or the keys of a stream."""


class ServerKeys(Shape):
    """A NATS server."""

    streams: dict[Annotated[str, PlainValidator(parse_stream_name)], Kept] = Field(default={})
    """The JetStream streams, by name: the subjects that each keeps, or its keys."""
    buckets: dict[Annotated[str, PlainValidator(parse_bucket_name)], Kept] = Field(default={})
    """The key-value buckets, by name: `{settings: {}}`, or with keys of a stream."""
    object_stores: dict[Annotated[str, PlainValidator(parse_bucket_name)], Kept] = Field(default={})
    """The object stores, by name."""
    storage: Annotated[int, PlainValidator(parse_size), WithJsonSchema(SIZE)] = 10 * GIB
    """How much all streams may keep on disk; 10GiB unless stated."""
    max_payload: Annotated[int, PlainValidator(parse_payload), WithJsonSchema(SIZE)] = 1 << 20
    """The largest message; 1MiB unless stated."""
    max_pending: Annotated[int | None, PlainValidator(parse_size), WithJsonSchema(SIZE)] = None
    """How much may wait for one connection that reads too slowly, before it is cut off. Unless
    stated, what a quarter of the server's memory has for each connection that channels allow, at
    least two messages of `max_payload` and at most 16MiB."""
    minimum_tls: MinimumTLS = "1.3"
    """1.3 needs nats-server 2.11 or newer and has TLS from the first byte; 1.2 is for older
    ones, which cannot be held to 1.3 and say their INFO in the clear first."""


class StreamKeys(Shape):
    """A JetStream stream, kept on disk."""

    subjects: list[Subject] = Field(min_length=1)
    """What it keeps."""
    max_size: Annotated[int, PlainValidator(parse_size), WithJsonSchema(SIZE)] = GIB
    """How much it keeps; 1GiB unless stated."""
    max_messages: Annotated[int | None, *whole_number(MAX_MESSAGES)] = None
    """How many messages it keeps. Unless stated, where services may publish to subjects of their
    own choice, what a quarter of the server's memory has room for in all streams together: each
    subject is kept in memory (174,762 of 2GiB)."""
    max_age: Annotated[int | None, PlainValidator(parse_age), WithJsonSchema(AGE)] = None
    """How long it keeps a message (`7d`); for as long as there is room unless stated."""
    history: Annotated[int | None, *whole_number(MAX_HISTORY)] = None
    """Of a bucket: how many values it keeps of each key; 1 unless stated."""
    discard: Literal["old", "new"] | None = None
    """What happens once it is full. ``new``: a message is refused, and its publisher told.
    ``old``: the oldest make room. Unless stated ``old``, but ``new`` where several services
    publish into it, and for a bucket."""
    duplicate_window: Annotated[int | None, PlainValidator(parse_age), WithJsonSchema(AGE)] = None
    """How long a message with an id (``Nats-Msg-Id``) that it had before is taken for a repetition
    and dropped, whoever sent the first: 2m unless stated, but the server's least (100 ms) where
    several services publish into it."""


class ChannelKeys(Shape):
    """What a service may do at a NATS server."""

    publish: list[Subject] = Field(default=[])
    """The subjects that it may publish to."""
    subscribe: list[Subject] = Field(default=[])
    """The subjects that it may subscribe to."""
    consume: list[str] = Field(default=[])
    """The streams that it may read, each by a durable consumer with the service's name."""
    reply: bool = False
    """It may answer what it receives: once a message, within a minute."""
    buckets: dict[str, list[Literal["read", "write"]]] = Field(default={})
    """Buckets that it may read or write as a whole: `{settings: [read, write]}`."""
    object_stores: dict[str, list[Literal["read", "write"]]] = Field(default={})
    """Object stores that it may read or write as a whole."""
    connections: Annotated[int, *whole_number(MAX_CONNECTIONS)] = CONNECTIONS
    """How many connections it may have open; 64 unless stated."""
    subscriptions: Annotated[int, *whole_number(MAX_SUBSCRIPTIONS)] = SUBSCRIPTIONS
    """How many subscriptions each may have; 1024 unless stated."""
    max_payload: Annotated[int | None, PlainValidator(parse_payload), WithJsonSchema(SIZE)] = None
    """The largest message that it may publish; the server's unless stated."""


@dataclass(frozen=True, slots=True)
class Stream:
    """One declared stream."""

    name: str
    subjects: tuple[str, ...]
    max_bytes: int
    max_age_seconds: int | None
    history: int | None = None
    """How many values of each key; None: it is no key-value bucket."""
    discard: Literal["old", "new"] | None = None
    """None: by who publishes into it."""
    duplicate_window_seconds: int | None = None
    """None: by who publishes into it."""
    max_messages: int | None = None
    """None: by the server's memory, and who publishes into it."""

    @property
    def is_bucket(self) -> bool:
        """Whether it is a key-value bucket or an object store."""
        return stream_of(self.subjects[0]) is not None


@dataclass(frozen=True, slots=True)
class Server:
    """What one resource says."""

    streams: Mapping[str, Stream]
    storage_bytes: int
    max_payload_bytes: int
    max_pending_bytes: int | None
    """None: by its memory and the connections (:func:`max_pending_bytes`)."""
    minimum_tls: Literal["1.2", "1.3"]

    @property
    def tls_first(self) -> bool:
        """Whether the server speaks TLS from the first byte (``handshake_first``)."""
        return self.minimum_tls == "1.3"


@dataclass(frozen=True, slots=True)
class Grants:
    """What one channel says."""

    publish: tuple[str, ...] = ()
    subscribe: tuple[str, ...] = ()
    consume: tuple[str, ...] = ()
    reply: bool = False
    connections: int = CONNECTIONS
    subscriptions: int = SUBSCRIPTIONS
    max_payload_bytes: int | None = None
    """None: the server's."""


def server(resource: Resource) -> Server:
    """What a resource in which ``check`` found nothing says."""
    found, flaws = read_server(resource)
    if found is None:
        raise ValueError("; ".join(f.message for f in flaws))
    return found


def grants(channel: Channel) -> Grants:
    """What a channel in which ``check`` found nothing says."""
    found, flaws = keys(ChannelKeys, (), channel.options)
    if found is None:
        raise ValueError("; ".join(f.message for f in flaws))
    whole = named(found.buckets, found.object_stores)
    written = [s for name, verbs in whole.items() if "write" in verbs for s in subjects_of(name)]
    read = [name for name, verbs in whole.items() if "read" in verbs]
    return Grants(
        tuple(dict.fromkeys([*found.publish, *written])),
        tuple(found.subscribe),
        tuple(dict.fromkeys([*found.consume, *read])),
        reply=found.reply,
        connections=found.connections,
        subscriptions=found.subscriptions,
        max_payload_bytes=found.max_payload,
    )


def read_server(resource: Resource) -> tuple[Server | None, tuple[Flaw, ...]]:
    path: DocumentPath = ("resources", resource.name)
    wanted, flaws = keys(ServerKeys, path, resource.options)
    if wanted is None:
        return None, flaws
    streams = {}
    wrong: list[Flaw] = []
    for name, value, where in each_stream(wanted, path):
        options = value if isinstance(value, Mapping) else {"subjects": value}
        one, flaws = keys(StreamKeys, where, options)
        if one is not None:
            made = Stream(
                name,
                tuple(one.subjects),
                one.max_size,
                one.max_age,
                _history(one),
                one.discard,
                one.duplicate_window,
                one.max_messages,
            )
            flaws = (*flaws, *_bucket(made, one, where))
            streams[name] = made
        short = not isinstance(value, Mapping)
        wrong += (_short_form(f, where) if short else f for f in flaws)
    if wrong:
        return None, tuple(wrong)
    minimum: Literal["1.2", "1.3"] = "1.2" if wanted.minimum_tls == "1.2" else "1.3"
    return Server(streams, wanted.storage, wanted.max_payload, wanted.max_pending, minimum), ()


def each_stream(wanted: ServerKeys, path: DocumentPath) -> Iterator[tuple[str, Any, DocumentPath]]:
    """Name, value and place of each stream; a bucket's value with the subjects that it has."""
    for name, value in wanted.streams.items():
        yield name, value, (*path, "streams", name)
    for key, listed in (("buckets", wanted.buckets), ("object_stores", wanted.object_stores)):
        for own, value in listed.items():
            (stream,) = named({own: 0}, {}) if key == "buckets" else named({}, {own: 0})
            options = {} if value is None else value
            if isinstance(options, Mapping):
                options = {"subjects": list(subjects_of(stream)), **options}
            yield stream, options, (*path, key, own)


def _history(wanted: StreamKeys) -> int | None:
    """Of a key-value bucket only."""
    keys_of = stream_of(wanted.subjects[0])
    return (wanted.history or 1) if keys_of and keys_of.startswith("KV_") else None


def _bucket(stream: Stream, wanted: StreamKeys, path: DocumentPath) -> Iterator[Flaw]:
    """A bucket's subjects are in the stream that its clients look for, and nothing else is."""
    for number, subject in enumerate(stream.subjects):
        owner = stream_of(subject)
        if owner != stream.name and (owner or stream.is_bucket):
            yield Flaw(
                codes.RESOURCE_KEY,
                (*path, "subjects", number),
                f"{quoted(subject)} is not kept by the stream {quoted(stream.name)}: clients look "
                f"for it in {quoted(owner)}."
                if owner
                else f"{quoted(stream.name)} is a bucket: it keeps no {quoted(subject)}.",
                "Give it a stream of its own, or declare it by `buckets` or `object_stores`.",
            )
    if wanted.history and stream.history is None:
        yield Flaw(
            codes.RESOURCE_KEY,
            (*path, "history"),
            f"{quoted(stream.name)} is no key-value bucket: it has no history of keys.",
            "Delete `history`.",
            on_key=True,
        )
    if stream.is_bucket and wanted.discard == "old":
        yield Flaw(
            codes.RESOURCE_KEY,
            (*path, "discard"),
            f"{quoted(stream.name)} is a bucket: to make room, it would lose keys.",
            "Delete `discard`, or limit how long it keeps them by `max_age`.",
        )
    if wanted.duplicate_window and wanted.max_age and wanted.duplicate_window > wanted.max_age:
        yield Flaw(
            codes.RESOURCE_KEY,
            (*path, "duplicate_window"),
            "`duplicate_window` is longer than `max_age`, and the server remembers no id longer "
            "than the message.",
            "Make it as short, or delete it.",
        )


def _short_form(flaw: Flaw, path: DocumentPath) -> Flaw:
    """``ORDERS: [orders.>]`` has no key ``subjects`` to point at."""
    inner = flaw.path[len(path) + 1 :]
    return Flaw(flaw.code, (*path, *inner), flaw.message, flaw.remedy)


def max_pending_bytes(resource: Resource, wanted: Server) -> int:
    """How much may wait for each connection: with many at their most, the server stays within its
    memory, of which it needs more than what waits (62 connections with 16 MiB each were seen to
    end a server of 2 GiB). It does not follow the channels: a server takes another bound by a
    restart alone, and a service that comes or goes must cut nobody."""
    if wanted.max_pending_bytes is not None:
        return wanted.max_pending_bytes
    share = resource.limits.memory_bytes // 4 // USUAL_CONNECTIONS
    return min(MOST_PENDING_BYTES, max(2 * wanted.max_payload_bytes, share))


def publishers(system: System, resource: Resource, stream: Stream) -> Mapping[str, tuple[str, ...]]:
    """The services that may publish into a stream, and what of it each may; revoked or not: what
    is kept must not change with whom we trust today."""
    found = {
        channel.source: tuple(
            common(own, kept)
            for own in _published(channel)
            for kept in stream.subjects
            if overlap(own, kept)
        )
        for channel in system.declared_to(resource.name)
    }
    return {service: subjects for service, subjects in found.items() if subjects}


def _published(channel: Channel) -> Sequence[str]:
    """Nothing, of a channel that is wrong."""
    return () if keys(ChannelKeys, (), channel.options)[0] is None else grants(channel).publish
