"""What a declaration says of a NATS server: its own keys, and what channels grant.

Read by both sides, as the model is: by the compiler, and by the probes that attack its work.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, PlainValidator

from watertight.enforcers.nats.buckets import named, stream_of, subjects_of
from watertight.enforcers.nats.subjects import covers, crossing, overlap, parse_subject
from watertight.enforcers.resource import channels_to, keys
from watertight.model import codes
from watertight.model.declaration import Shape
from watertight.model.document import DocumentPath, quoted
from watertight.model.findings import Severity
from watertight.model.nearest import did_you_mean
from watertight.model.rules import Flaw
from watertight.model.system import Channel, Resource, System
from watertight.model.units import size_text
from watertight.model.values import Malformed

KIND = "nats"
MAX_STREAM_NAME = 255
"""Characters; a stream is a directory, too (JSMaxNameLen in nats-server)."""
MAX_PAYLOAD_BYTES = 64 << 20
"""MAX_PAYLOAD_MAX_SIZE in nats-server."""
GIB = 1 << 30
MOST_PENDING_BYTES = 16 << 20
USUAL_CONNECTIONS = 256
"""Four services with the connections that a channel has by default."""
MAX_HISTORY = 64
"""KeyValueMaxHistory in every client."""
CONNECTIONS, MAX_CONNECTIONS = 64, 10_000
SUBSCRIPTIONS, MAX_SUBSCRIPTIONS = 1024, 1_000_000
_STREAM = re.compile(rf"[A-Za-z0-9_-]{{1,{MAX_STREAM_NAME}}}")
_SIZE = re.compile(r"([0-9]{1,9})(B|KiB|MiB|GiB|TiB)")
_BYTES = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": GIB, "TiB": 1 << 40}
_AGE = re.compile(r"([0-9]{1,6})(s|m|h|d)")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def _size(value: Any) -> int:
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    size = int(match[1]) * _BYTES[match[2]] if match else 0
    if not size:
        raise Malformed(
            codes.BAD_SIZE,
            f"{quoted(value)} is not a size.",
            "Write a whole number above 0 and `B`, `KiB`, `MiB`, `GiB` or `TiB`: `10GiB`.",
        )
    return size


def _payload(value: Any) -> int:
    size = _size(value)
    if size > MAX_PAYLOAD_BYTES:
        raise Malformed(
            codes.OUT_OF_RANGE, f"`max_payload` is {quoted(value)}: at most 64MiB is allowed."
        )
    return size


def _number(most: int) -> PlainValidator:
    """A whole number from 1."""

    def parse(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
            raise Malformed(
                codes.OUT_OF_RANGE, f"{quoted(value)} is not a whole number from 1 to {most}."
            )
        return value

    return PlainValidator(parse)


def _age(value: Any) -> int:
    match = _AGE.fullmatch(value) if isinstance(value, str) else None
    seconds = int(match[1]) * _SECONDS[match[2]] if match else 0
    if not seconds:
        raise Malformed(
            codes.BAD_DURATION,
            f"{quoted(value)} is not an age.",
            "Write a whole number above 0 and `s`, `m`, `h` or `d`: `7d`.",
        )
    return seconds


def _minimum_tls(value: Any) -> str:
    """Also as YAML's number, which it is without quotes."""
    if str(value) not in ("1.2", "1.3"):
        raise Malformed(
            codes.BAD_CHOICE, f"`minimum_tls` is {quoted(value)}; allowed: `1.2`, `1.3`."
        )
    return str(value)


def _stream_name(value: Any) -> str:
    if not isinstance(value, str) or not _STREAM.fullmatch(value):
        raise Malformed(
            codes.RESOURCE_NAME,
            f"{quoted(value)} is not a stream's name.",
            f"Use up to {MAX_STREAM_NAME} letters, digits, `_` and `-`: `ORDERS`.",
            on_key=True,
        )
    return value


def _bucket_name(value: Any) -> str:
    longest = MAX_STREAM_NAME - len("OBJ_")
    if not isinstance(value, str) or len(value) > longest or not _STREAM.fullmatch(value):
        raise Malformed(
            codes.RESOURCE_NAME,
            f"{quoted(value)} is not a bucket's name.",
            f"Use up to {longest} letters, digits, `_` and `-`: `settings`.",
            on_key=True,
        )
    return value


Subject = Annotated[str, PlainValidator(parse_subject)]


class ServerKeys(Shape):
    """A NATS server."""

    streams: dict[Annotated[str, PlainValidator(_stream_name)], Any] = Field(default={})
    """The JetStream streams, by name: the subjects that each keeps, or its keys."""
    buckets: dict[Annotated[str, PlainValidator(_bucket_name)], Any] = Field(default={})
    """The key-value buckets, by name: `{settings: {}}`, or with keys of a stream."""
    object_stores: dict[Annotated[str, PlainValidator(_bucket_name)], Any] = Field(default={})
    """The object stores, by name."""
    storage: Annotated[int, PlainValidator(_size)] = 10 * GIB
    """How much all streams may keep on disk; 10GiB unless stated."""
    max_payload: Annotated[int, PlainValidator(_payload)] = 1 << 20
    """The largest message; 1MiB unless stated."""
    max_pending: Annotated[int | None, PlainValidator(_size)] = None
    """How much may wait for one connection that reads too slowly, before it is cut off. Unless
    stated, what a quarter of the server's memory has for each connection that channels allow, at
    least two messages of `max_payload` and at most 16MiB."""
    minimum_tls: Annotated[str, PlainValidator(_minimum_tls)] = "1.3"
    """1.3 needs nats-server 2.11 or newer and has TLS from the first byte; 1.2 is for older
    ones, which cannot be held to 1.3 and say their INFO in the clear first."""


class StreamKeys(Shape):
    """A JetStream stream, kept on disk."""

    subjects: list[Subject] = Field(min_length=1)
    """What it keeps."""
    max_size: Annotated[int, PlainValidator(_size)] = GIB
    """How much it keeps; 1GiB unless stated."""
    max_age: Annotated[int | None, PlainValidator(_age)] = None
    """How long it keeps a message (`7d`); for as long as there is room unless stated."""
    history: Annotated[int | None, _number(MAX_HISTORY)] = None
    """Of a bucket: how many values it keeps of each key; 1 unless stated."""
    discard: Literal["old", "new"] | None = None
    """What happens once it is full. ``new``: a message is refused, and its publisher told.
    ``old``: the oldest make room. Unless stated ``old``, but ``new`` where several services
    publish into it, and for a bucket."""
    duplicate_window: Annotated[int | None, PlainValidator(_age)] = None
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
    connections: Annotated[int, _number(MAX_CONNECTIONS)] = CONNECTIONS
    """How many connections it may have open; 64 unless stated."""
    subscriptions: Annotated[int, _number(MAX_SUBSCRIPTIONS)] = SUBSCRIPTIONS
    """How many subscriptions each may have; 1024 unless stated."""
    max_payload: Annotated[int | None, PlainValidator(_payload)] = None
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
    """What a resource that passed :func:`check` says."""
    found, flaws = _read_server(resource)
    if found is None:
        raise ValueError("; ".join(f.message for f in flaws))
    return found


def grants(channel: Channel) -> Grants:
    """What a channel that passed :func:`check` says."""
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


def check(system: System, resource: Resource) -> Iterator[Flaw]:
    """What is wrong with the resource's own keys, and with the channels to it."""
    found, flaws = _read_server(resource)
    yield from flaws
    if found is not None:
        yield from _overlapping(found, resource)
        yield from _room(found, resource)
        yield from _pending(system, resource, found)
        yield from _shared_windows(system, resource, found)
    declared = _stream_keys(resource)
    for path, channel in channels_to(system, resource.name):
        said, flaws = keys(ChannelKeys, path, channel.options)
        yield from flaws
        if said is not None:
            yield from _channel(path, channel, said, declared)
    if found is not None and not found.tls_first:
        yield from _answered_twice(system, resource)


def _stream_keys(resource: Resource) -> Sequence[str]:
    def names(key: str) -> Mapping[str, object]:
        said = resource.options.get(key)
        return {str(name): None for name in said} if isinstance(said, Mapping) else {}

    return [*names("streams"), *named(names("buckets"), names("object_stores"))]


def _read_server(resource: Resource) -> tuple[Server | None, tuple[Flaw, ...]]:
    path: DocumentPath = ("resources", resource.name)
    said, flaws = keys(ServerKeys, path, resource.options)
    if said is None:
        return None, flaws
    streams = {}
    wrong: list[Flaw] = []
    for name, value, where in _each_stream(said, path):
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
            )
            flaws = (*flaws, *_bucket(made, one, where))
            streams[name] = made
        short = not isinstance(value, Mapping)
        wrong += (_short_form(f, where) if short else f for f in flaws)
    if wrong:
        return None, tuple(wrong)
    minimum: Literal["1.2", "1.3"] = "1.2" if said.minimum_tls == "1.2" else "1.3"
    return Server(streams, said.storage, said.max_payload, said.max_pending, minimum), ()


def _each_stream(said: ServerKeys, path: DocumentPath) -> Iterator[tuple[str, Any, DocumentPath]]:
    """Name, value and place of each stream; a bucket's value with the subjects that it has."""
    for name, value in said.streams.items():
        yield name, value, (*path, "streams", name)
    for key, listed in (("buckets", said.buckets), ("object_stores", said.object_stores)):
        for own, value in listed.items():
            (stream,) = named({own: 0}, {}) if key == "buckets" else named({}, {own: 0})
            options = {} if value is None else value
            if isinstance(options, Mapping):
                options = {"subjects": list(subjects_of(stream)), **options}
            yield stream, options, (*path, key, own)


def _history(said: StreamKeys) -> int | None:
    """Of a key-value bucket only."""
    keys_of = stream_of(said.subjects[0])
    return (said.history or 1) if keys_of and keys_of.startswith("KV_") else None


def _bucket(stream: Stream, said: StreamKeys, path: DocumentPath) -> Iterator[Flaw]:
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
    if said.history and stream.history is None:
        yield Flaw(
            codes.RESOURCE_KEY,
            (*path, "history"),
            f"{quoted(stream.name)} is no key-value bucket: it has no history of keys.",
            "Delete `history`.",
            on_key=True,
        )
    if stream.is_bucket and said.discard == "old":
        yield Flaw(
            codes.RESOURCE_KEY,
            (*path, "discard"),
            f"{quoted(stream.name)} is a bucket: to make room, it would lose keys.",
            "Delete `discard`, or limit how long it keeps them by `max_age`.",
        )
    if said.duplicate_window and said.max_age and said.duplicate_window > said.max_age:
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


def _overlapping(found: Server, resource: Resource) -> Iterator[Flaw]:
    """The server would refuse the second: a message is kept once."""
    seen: list[tuple[str, str]] = []
    for stream in found.streams.values():
        for subject in stream.subjects:
            other = next((o for o in seen if overlap(o[1], subject)), None)
            if other is not None:
                yield Flaw(
                    codes.RESOURCE_KEY,
                    ("resources", resource.name, "streams", stream.name),
                    f"{quoted(subject)} overlaps {quoted(other[1])} of the stream "
                    f"{quoted(other[0])}: a message is kept by one stream, once.",
                    "Take it out of one of them.",
                )
            seen.append((stream.name, subject))


def _room(found: Server, resource: Resource) -> Iterator[Flaw]:
    wanted = sum(stream.max_bytes for stream in found.streams.values())
    if wanted > found.storage_bytes:
        yield Flaw(
            codes.RESOURCE_KEY,
            ("resources", resource.name, "streams"),
            f"The streams may keep {size_text(wanted)} together, "
            f"and `storage` is {size_text(found.storage_bytes)}.",
            "Raise `storage`, or lower the `max_size` of streams (1GiB each unless stated).",
            on_key=True,
        )


def max_pending_bytes(resource: Resource, said: Server) -> int:
    """How much may wait for each connection: with many at their most, the server stays within its
    memory, of which it needs more than what waits (62 connections with 16 MiB each were seen to
    end a server of 2 GiB). It does not follow the channels: a server takes another bound by a
    restart alone, and a service that comes or goes must cut nobody."""
    if said.max_pending_bytes is not None:
        return said.max_pending_bytes
    share = resource.limits.memory_bytes // 4 // USUAL_CONNECTIONS
    return min(MOST_PENDING_BYTES, max(2 * said.max_payload_bytes, share))


def _connections(system: System, resource: Resource) -> int:
    """How many all channels allow together."""
    read = (keys(ChannelKeys, (), c.options)[0] for _, c in channels_to(system, resource.name))
    return sum(said.connections for said in read if said)


def _pending(system: System, resource: Resource, found: Server) -> Iterator[Flaw]:
    """A message that may not wait cannot be delivered; and all that may wait is held in memory."""
    pending = max_pending_bytes(resource, found)
    every, memory = _connections(system, resource), resource.limits.memory_bytes
    if not resource.external and every * pending >= memory // 2:
        yield Flaw(
            codes.PENDING_OVER_MEMORY,
            ("resources", resource.name),
            f"{every} connections are allowed, for each of which {size_text(pending)} may wait: "
            f"{size_text(every * pending)}, and {quoted(resource.name)} has "
            f"{size_text(memory)} of memory. Who reads slowly can end the server.",
            "Allow fewer (`connections` of its channels), lower `max_pending` or `max_payload`, or "
            "give it more `limits: {memory: }`.",
            Severity.WARNING,
        )
    if found.max_pending_bytes and found.max_pending_bytes < 2 * found.max_payload_bytes:
        yield Flaw(
            codes.RESOURCE_KEY,
            ("resources", resource.name),
            f"`max_pending` is {size_text(found.max_pending_bytes)}, less than two messages of "
            f"`max_payload` ({size_text(found.max_payload_bytes)}).",
            "Raise `max_pending`, or lower `max_payload`.",
        )


def publishers(system: System, resource: Resource, stream: Stream) -> Sequence[str]:
    """The services that may publish into a stream; the channels passed :func:`check`."""
    return [
        channel.source
        for _, channel in channels_to(system, resource.name)
        if any(overlap(s, kept) for s in _published(channel) for kept in stream.subjects)
    ]


def _published(channel: Channel) -> Sequence[str]:
    """Nothing, of a channel that is wrong."""
    return () if keys(ChannelKeys, (), channel.options)[0] is None else grants(channel).publish


def _shared_windows(system: System, resource: Resource, found: Server) -> Iterator[Flaw]:
    """Ids count for a stream, whoever sends them (nats-server ``checkMsgId``)."""
    said, _ = keys(ServerKeys, (), resource.options)
    for name, _, path in _each_stream(said, ()) if said else ():
        stream = found.streams[name]
        sharing = publishers(system, resource, stream)
        if stream.duplicate_window_seconds and len(sharing) > 1:
            yield Flaw(
                codes.SHARED_MESSAGE_IDS,
                ("resources", resource.name, *path, "duplicate_window"),
                f"{' and '.join(map(quoted, sharing))} publish into {quoted(name)}: who sends an "
                "id first has the server drop what another sends with it, and acknowledge that.",
                "Delete `duplicate_window`, or give each a stream of its own.",
                Severity.WARNING,
            )


def _answered_twice(system: System, resource: Resource) -> Iterator[Flaw]:
    """Before 2.11, an account imports a subject from one other."""
    answering: dict[str, str] = {}
    for path, channel in channels_to(system, resource.name):
        said, _ = keys(ChannelKeys, path, channel.options)
        for number, subject in enumerate(said.subscribe if said and said.reply else ()):
            other = answering.setdefault(subject, channel.source)
            if other != channel.source:
                yield Flaw(
                    codes.RESOURCE_GRANT,
                    (*path, "subscribe", number),
                    f"{quoted(other)} answers {quoted(subject)} already, and a nats-server older "
                    "than 2.11 cannot pass one request on to two services.",
                    "Delete `minimum_tls: 1.2`, or let one of them answer.",
                )


def _channel(
    path: DocumentPath, channel: Channel, said: ChannelKeys, streams: Sequence[str]
) -> Iterator[Flaw]:
    if not (said.publish or said.subscribe or said.consume or said.buckets or said.object_stores):
        yield Flaw(
            codes.GRANTS_NOTHING,
            path,
            f"The channel `{channel.name}` grants nothing: {quoted(channel.source)} may log in, "
            "and that is all.",
            "Give it `publish`, `subscribe` or `consume`.",
            Severity.WARNING,
        )
    if said.reply and not said.subscribe:
        yield Flaw(
            codes.RESOURCE_GRANT,
            (*path, "reply"),
            f"{quoted(channel.source)} subscribes to nothing, so there is nothing to reply to.",
            "Give it `subscribe`, or delete `reply`.",
            on_key=True,
        )
    for key, listed in (("publish", said.publish), ("subscribe", said.subscribe)):
        yield from _repeated((*path, key), listed)
        yield from _crossing((*path, key), listed)
        yield from _of_no_bucket((*path, key), channel, listed, streams)
    for key, whole in (
        ("buckets", named(said.buckets, {})),
        ("object_stores", named({}, said.object_stores)),
    ):
        for name in whole:
            if name not in streams:
                yield _no_bucket((*path, key, name.partition("_")[2]), channel, name, streams)
    for number, name in enumerate(said.consume):
        if name not in streams:
            yield Flaw(
                codes.RESOURCE_GRANT,
                (*path, "consume", number),
                f"{quoted(channel.target)} has no stream {quoted(name)}.",
                did_you_mean(name, streams)
                or f"Declare it: `streams: {{{name}: [SUBJECT]}}` of {quoted(channel.target)}.",
            )
        elif name in said.consume[:number]:
            yield _twice((*path, "consume", number), name)


def _repeated(path: DocumentPath, listed: Sequence[str]) -> Iterator[Flaw]:
    for number, subject in enumerate(listed):
        if subject in listed[:number]:
            yield _twice((*path, number), subject)
            continue
        wider = next((w for w in listed if w != subject and covers(w, subject)), None)
        if wider is not None:
            yield Flaw(
                codes.COVERED_GRANT,
                (*path, number),
                f"{quoted(wider)} grants all that {quoted(subject)} does.",
                "Delete one of them.",
                Severity.WARNING,
            )


def _crossing(path: DocumentPath, listed: Sequence[str]) -> Iterator[Flaw]:
    """What lies in both would cross between accounts twice."""
    pair = crossing(listed)
    if pair is not None:
        yield Flaw(
            codes.RESOURCE_GRANT,
            (*path, listed.index(pair[1])),
            f"{quoted(pair[1])} overlaps {quoted(pair[0])}, and neither takes in the other: what "
            "matches both would arrive twice.",
            "Write them so that they have no subject in common, or as one.",
        )


def _of_no_bucket(
    path: DocumentPath, channel: Channel, listed: Sequence[str], streams: Sequence[str]
) -> Iterator[Flaw]:
    for number, subject in enumerate(listed):
        name = stream_of(subject)
        if name is not None and name not in streams:
            yield _no_bucket((*path, number), channel, name, streams)


def _no_bucket(path: DocumentPath, channel: Channel, stream: str, streams: Sequence[str]) -> Flaw:
    kind, _, bucket = stream.partition("_")
    key, what = ("buckets", "bucket") if kind == "KV" else ("object_stores", "object store")
    return Flaw(
        codes.RESOURCE_GRANT,
        path,
        f"{quoted(channel.target)} has no {what} {quoted(bucket)}.",
        did_you_mean(stream, streams)
        or f"Declare it: `{key}: {{{bucket}: {{}}}}` of {quoted(channel.target)}.",
    )


def _twice(path: DocumentPath, what: str) -> Flaw:
    return Flaw(
        codes.DUPLICATE_GRANT,
        path,
        f"The grant {quoted(what)} stands here already.",
        "Delete one of them.",
    )
