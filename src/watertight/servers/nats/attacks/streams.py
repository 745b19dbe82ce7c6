"""JetStream: no service administers it, and none reads by another's consumer.

Every attempt is a publication that the server judges and does not carry out (see ``dialect``):
an attack that got through would not delete anything.
"""

from collections.abc import Iterator
from functools import partial

from watertight.attack.probe import Probe
from watertight.model.system import Resource, System
from watertight.servers.nats.attacks.declared import (
    LEAF,
    Caller,
    callers,
    example,
    meets,
    takes_in,
)
from watertight.servers.nats.attacks.dialect import NATSDialect, publish
from watertight.servers.nats.declaration import Stream

API = "$JS.API"
ACCOUNT = (
    f"{API}.INFO",
    f"{API}.STREAM.LIST",
    f"{API}.STREAM.NAMES",
    f"{API}.STREAM.CREATE.{LEAF}",
    f"{API}.ACCOUNT.PURGE.SERVICES",
    f"{API}.META.LEADER.STEPDOWN",
    f"{API}.SERVER.REMOVE",
)
STREAM = (
    "STREAM.UPDATE.{stream}",
    "STREAM.DELETE.{stream}",
    "STREAM.PURGE.{stream}",
    "STREAM.MSG.DELETE.{stream}",
    "STREAM.SNAPSHOT.{stream}",
    "STREAM.RESTORE.{stream}",
    "STREAM.LEADER.STEPDOWN.{stream}",
)
READ = (
    "STREAM.INFO.{stream}",
    "STREAM.MSG.GET.{stream}",
    "DIRECT.GET.{stream}",
    "CONSUMER.LIST.{stream}",
    "CONSUMER.NAMES.{stream}",
)
CONSUMER = (
    "CONSUMER.CREATE.{stream}",
    "CONSUMER.CREATE.{stream}.{name}",
    "CONSUMER.DURABLE.CREATE.{stream}.{name}",
    "CONSUMER.DELETE.{stream}.{name}",
    "CONSUMER.PAUSE.{stream}.{name}",
)


def probes(dialect: NATSDialect, system: System, resource: Resource) -> Iterator[Probe]:
    """For each channel; those on streams, for each stream."""
    for caller in callers(dialect, system, resource):
        for identifier, subject in _forbidden(caller):
            yield caller.attack(
                identifier,
                f"a request to {subject} as {caller.service} (not carried out)",
                partial(publish, subject=subject),
            )


def _forbidden(caller: Caller) -> Iterator[tuple[str, str]]:
    granted = {s for stream in caller.streams if stream.is_bucket for s in _of(stream, caller)}
    return ((what, subject) for what, subject in _attempts(caller) if subject not in granted)


def _of(bucket: Stream, caller: Caller) -> Iterator[str]:
    """What the documentation lets a user of a bucket ask, as the client's ``status``, ``get`` and
    emptying it need it."""
    said = caller.granted
    reads = bucket.name in said.consume
    own = [s for s in (*said.publish, *said.subscribe) if any(meets(s, k) for k in bucket.subjects)]
    if reads or own:
        yield f"{API}.STREAM.INFO.{bucket.name}"
    if reads:
        yield f"{API}.STREAM.MSG.GET.{bucket.name}"
        yield f"{API}.DIRECT.GET.{bucket.name}"
    for subject in map(example, _keys(bucket, caller)):
        if reads or caller.may_subscribe(subject):
            yield f"{API}.DIRECT.GET.{bucket.name}.{subject}"
    if all(any(takes_in(grant, kept) for grant in said.publish) for kept in bucket.subjects):
        yield f"{API}.STREAM.PURGE.{bucket.name}"


def _keys(bucket: Stream, caller: Caller) -> Iterator[str]:
    """Whatever is named of a bucket at this server."""
    yield from bucket.subjects
    for one in (caller, *caller.others):
        for subject in (*one.granted.publish, *one.granted.subscribe):
            if any(meets(subject, kept) for kept in bucket.subjects):
                yield subject


def _attempts(caller: Caller) -> Iterator[tuple[str, str]]:
    """Probe id and subject."""
    for subject in ACCOUNT:
        yield "streams.administer", subject
    for stream in caller.streams:
        for form in STREAM:
            yield "streams.administer", f"{API}.{form.format(stream=stream.name)}"
        for form in READ:
            yield "streams.read", f"{API}.{form.format(stream=stream.name)}"
        if stream.is_bucket:
            for subject in dict.fromkeys(map(example, _keys(stream, caller))):
                yield "streams.read", f"{API}.DIRECT.GET.{stream.name}.{subject}"
        for form in CONSUMER:
            subject = form.format(stream=stream.name, name=caller.service)
            yield "streams.consumers", f"{API}.{subject}"
        yield from _readers(caller, stream.name)


def _readers(caller: Caller, stream: str) -> Iterator[tuple[str, str]]:
    names = [other.service for other in caller.others if stream in other.granted.consume]
    if stream not in caller.granted.consume:
        names.append(caller.service)
    for name in (*names, LEAF):
        yield "streams.fetch", f"{API}.CONSUMER.MSG.NEXT.{stream}.{name}"
        yield "streams.fetch", f"{API}.CONSUMER.INFO.{stream}.{name}"
        yield "streams.acknowledge", f"$JS.ACK.{stream}.{name}.1.1.1.1.0"
    yield "streams.acknowledge", f"$JS.FC.{stream}.{LEAF}"
