"""What is wrong with what a declaration says of a NATS server and of the channels to it."""

from collections.abc import Iterator, Mapping, Sequence

from watertight.enforcers.resource import channels_to, keys
from watertight.model import codes
from watertight.model.document import DocumentPath, quoted
from watertight.model.findings import Severity
from watertight.model.nearest import did_you_mean
from watertight.model.rules import Flaw
from watertight.model.system import Channel, Resource, System
from watertight.model.units import size_text
from watertight.servers.flaws import grants_nothing, repeated
from watertight.servers.nats.bounds import over_memory, room
from watertight.servers.nats.buckets import named, stream_of
from watertight.servers.nats.declaration import (
    ChannelKeys,
    Server,
    ServerKeys,
    each_stream,
    max_pending_bytes,
    publishers,
    read_server,
)
from watertight.servers.nats.subjects import covers, crossing, overlap


def check(system: System, resource: Resource) -> Iterator[Flaw]:
    """What is wrong with the resource's own keys, and with the channels to it."""
    found, flaws = read_server(resource)
    yield from flaws
    if found is not None:
        yield from _overlapping(found, resource)
        yield from _room(found, resource)
        yield from _messages(system, resource, found)
        yield from _pending(system, resource, found)
        yield from _shared_windows(system, resource, found)
    declared = _stream_keys(resource)
    for path, channel in channels_to(system, resource.name):
        wanted, flaws = keys(ChannelKeys, path, channel.options)
        yield from flaws
        if wanted is not None:
            yield from _channel(path, channel, wanted, declared)
    if found is not None and not found.tls_first:
        yield from _answered_twice(system, resource)


def _stream_keys(resource: Resource) -> Sequence[str]:
    def names(key: str) -> Mapping[str, object]:
        wanted = resource.options.get(key)
        return {str(name): None for name in wanted} if isinstance(wanted, Mapping) else {}

    return [*names("streams"), *named(names("buckets"), names("object_stores"))]


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


def _messages(system: System, resource: Resource, found: Server) -> Iterator[Flaw]:
    """Each subject is kept in memory."""
    every, fits = over_memory(system, resource, found), room(resource)
    if every and not resource.external:
        yield Flaw(
            codes.MESSAGES_OVER_MEMORY,
            ("resources", resource.name),
            f"Streams may hold {every:,} messages whose subjects services choose; of "
            f"{size_text(resource.limits.memory_bytes)}, a quarter has room for {fits:,} subjects. "
            "Who publishes to ever new ones can end the server, again each time it starts.",
            "Lower `max_messages` of streams, grant subjects without wildcards, or give it more "
            "`limits: {memory: }`.",
            Severity.WARNING,
        )


def _connections(system: System, resource: Resource) -> int:
    """How many all channels allow together."""
    read = (keys(ChannelKeys, (), c.options)[0] for _, c in channels_to(system, resource.name))
    return sum(wanted.connections for wanted in read if wanted)


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


def _shared_windows(system: System, resource: Resource, found: Server) -> Iterator[Flaw]:
    """Ids count for a stream, whoever sends them (nats-server ``checkMsgId``)."""
    wanted, _ = keys(ServerKeys, (), resource.options)
    for name, _, path in each_stream(wanted, ()) if wanted else ():
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
        wanted, _ = keys(ChannelKeys, path, channel.options)
        for number, subject in enumerate(wanted.subscribe if wanted and wanted.reply else ()):
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
    path: DocumentPath, channel: Channel, wanted: ChannelKeys, streams: Sequence[str]
) -> Iterator[Flaw]:
    if not (
        wanted.publish
        or wanted.subscribe
        or wanted.consume
        or wanted.buckets
        or wanted.object_stores
    ):
        yield grants_nothing(path, channel, "Give it `publish`, `subscribe` or `consume`.")
    if wanted.reply and not wanted.subscribe:
        yield Flaw(
            codes.RESOURCE_GRANT,
            (*path, "reply"),
            f"{quoted(channel.source)} subscribes to nothing, so there is nothing to reply to.",
            "Give it `subscribe`, or delete `reply`.",
            on_key=True,
        )
    for key, listed in (("publish", wanted.publish), ("subscribe", wanted.subscribe)):
        yield from repeated((*path, key), listed)
        yield from _covered((*path, key), listed)
        yield from _crossing((*path, key), listed)
        yield from _of_no_bucket((*path, key), channel, listed, streams)
    for key, whole in (
        ("buckets", named(wanted.buckets, {})),
        ("object_stores", named({}, wanted.object_stores)),
    ):
        for name in whole:
            if name not in streams:
                yield _no_bucket((*path, key, name.partition("_")[2]), channel, name, streams)
    yield from repeated((*path, "consume"), wanted.consume)
    for number, name in enumerate(wanted.consume):
        if name not in streams:
            yield Flaw(
                codes.RESOURCE_GRANT,
                (*path, "consume", number),
                f"{quoted(channel.target)} has no stream {quoted(name)}.",
                did_you_mean(name, streams)
                or f"Declare it: `streams: {{{name}: [SUBJECT]}}` of {quoted(channel.target)}.",
            )


def _covered(path: DocumentPath, listed: Sequence[str]) -> Iterator[Flaw]:
    for number, subject in enumerate(listed):
        wider = next((w for w in listed if w != subject and covers(w, subject)), None)
        if wider is not None and subject not in listed[:number]:
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
