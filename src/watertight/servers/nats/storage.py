"""What JetStream keeps, and what a service may ask of it. Pure.

Every request here answers to a subject that the caller chose, so each reaches JetStream only as a
service import of the caller's own account (``accounts``). Nobody is granted to make a consumer: one
that pushes delivers to a subject of its maker's choice in the account where the stream lies.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from watertight.enforcers.resource import managed
from watertight.model.diff import Change
from watertight.model.system import Resource, System
from watertight.servers.nats.bounds import most_messages
from watertight.servers.nats.declaration import (
    KIND,
    Grants,
    Server,
    Stream,
    grants,
    publishers,
    server,
)
from watertight.servers.nats.subjects import covers, overlap

_API = "$JS.API"
_NANOSECONDS = 1_000_000_000
_USUAL_WINDOW_SECONDS = 120
"""StreamDefaultDuplicatesWindow in nats-server."""
_LEAST_WINDOW = _NANOSECONDS // 10
"""Nanoseconds. nats-server refuses less, and takes 0 for the usual one: none is not to be had."""


def api_subjects(service: str, granted: Grants, wanted: Server) -> Sequence[str]:
    """What one service may ask: fetch, look at its consumer, acknowledge; of buckets, what
    their clients need to bind, read and empty them."""
    found: list[str] = []
    for stream in granted.consume:
        found += [
            f"{_API}.CONSUMER.MSG.NEXT.{stream}.{service}",
            f"{_API}.CONSUMER.INFO.{stream}.{service}",
            f"$JS.ACK.{stream}.{service}.>",
        ]
    for bucket in wanted.streams.values():
        if bucket.is_bucket:
            found += _of_bucket(bucket, granted)
    return found


def _of_bucket(bucket: Stream, granted: Grants) -> Iterator[str]:
    reads = bucket.name in granted.consume
    heard = [s for s in granted.subscribe if _within(s, bucket)]
    if reads or heard or any(_within(s, bucket) for s in granted.publish):
        yield f"{_API}.STREAM.INFO.{bucket.name}"
    if reads:
        yield f"{_API}.STREAM.MSG.GET.{bucket.name}"
        yield f"{_API}.DIRECT.GET.{bucket.name}"
        yield f"{_API}.DIRECT.GET.{bucket.name}.>"
    else:
        yield from (f"{_API}.DIRECT.GET.{bucket.name}.{subject}" for subject in heard)
    if writes_all(bucket, granted):
        yield f"{_API}.STREAM.PURGE.{bucket.name}"


def _within(subject: str, bucket: Stream) -> bool:
    return any(overlap(subject, one) for one in bucket.subjects)


def writes_all(bucket: Stream, granted: Grants) -> bool:
    """Whether a service may write every key, so that it may as well empty the bucket."""
    return all(any(covers(own, s) for own in granted.publish) for s in bucket.subjects)


def consumers(system: System, resource: Resource, wanted: Server) -> Mapping[str, tuple[str, ...]]:
    """Who reads which stream: also who is revoked, and may not ask for the next message now. Its
    position stays, or all that it has acknowledged would come again once it is restored."""
    readers: dict[str, list[str]] = {name: [] for name in wanted.streams}
    for channel in system.declared_to(resource.name):
        for stream in grants(channel).consume:
            readers[stream].append(channel.source)
    return {name: tuple(sorted(services)) for name, services in readers.items()}


def forgotten(before: System, after: System) -> Iterator[Change]:
    """The positions that go because nobody declares them any more, while what they counted stays:
    declared again, the service would get everything once more."""
    for resource in managed(after, KIND):
        was = before.resources.get(resource.name)
        if was is None or was.kind != KIND or was.external:
            continue
        kept = consumers(after, resource, server(resource))
        for stream, readers in consumers(before, was, server(was)).items():
            for service in readers:
                if stream in kept and service not in kept[stream]:
                    yield Change(
                        "-",
                        f"position of {service} in {stream} of {resource.name}: granted again, "
                        "it gets every message again",
                        tightens=True,
                        at=resource.at,
                    )


def streams(system: System, resource: Resource, wanted: Server) -> Mapping[str, Mapping[str, Any]]:
    """Name → configuration, as ``$JS.API.STREAM.CREATE`` takes it."""
    every = [grants(channel) for channel in system.declared_to(resource.name)]
    most = most_messages(system, resource, wanted)
    return {
        name: _configuration(
            stream,
            most[name],
            rollup=_may_roll_up(stream, every),
            shared=len(publishers(system, resource, stream)) > 1,
        )
        for name, stream in wanted.streams.items()
    }


def _may_roll_up(stream: Stream, every: Sequence[Grants]) -> bool:
    """A message with ``Nats-Rollup: all`` empties the whole stream, whatever its subject: allowed
    where each who writes to the bucket may write all of it."""
    writers = [g for g in every if any(_within(s, stream) for s in g.publish)]
    return stream.is_bucket and all(writes_all(stream, g) for g in writers)


def _window(stream: Stream, *, shared: bool) -> int:
    """Nanoseconds. Ids count for the stream: where several publish, one could send the ids of
    another first, and the other's messages would be dropped and acknowledged."""
    if stream.duplicate_window_seconds is None and shared:
        return _LEAST_WINDOW
    seconds = stream.duplicate_window_seconds or _USUAL_WINDOW_SECONDS
    return min(seconds, stream.max_age_seconds or seconds) * _NANOSECONDS


def _configuration(
    stream: Stream, messages: int, *, rollup: bool, shared: bool
) -> Mapping[str, Any]:
    """Limits that are not set are -1. ``messages``: how many it may hold. ``shared``: several
    services publish into it, and none may have the server throw away what it has acknowledged to
    another."""
    bucket = stream.is_bucket
    made: dict[str, Any] = {
        "name": stream.name,
        "subjects": list(stream.subjects),
        "retention": "limits",
        "storage": "file",
        "discard": stream.discard or ("new" if bucket or shared else "old"),
        "duplicate_window": _window(stream, shared=shared),
        "max_bytes": stream.max_bytes,
        "max_age": (stream.max_age_seconds or 0) * _NANOSECONDS,
        "max_msgs": messages,
        "max_msg_size": -1,
        "max_consumers": -1,
        "max_msgs_per_subject": stream.history or -1,
        "num_replicas": 1,
    }
    if bucket:
        made |= {"allow_direct": True, "allow_rollup_hdrs": rollup}
        if stream.history:
            made["deny_delete"] = True
    return made


def consumer_configuration(service: str) -> Mapping[str, Any]:
    """A durable pull consumer: what is not acknowledged within 30 s is delivered again."""
    return {
        "durable_name": service,
        "ack_policy": "explicit",
        "ack_wait": 30 * _NANOSECONDS,
        "deliver_policy": "all",
        "replay_policy": "instant",
        "max_deliver": -1,
        "max_ack_pending": 1000,
        "max_waiting": 512,
        "num_replicas": 0,
    }
