"""Subjects: whatever no grant names must be refused, in every spelling; inboxes above all."""

from collections.abc import Iterator
from functools import partial

from watertight.attack.probe import Probe
from watertight.model.system import Resource, System
from watertight.servers.nats.attacks.declared import (
    LEAF,
    Caller,
    callers,
    distinct,
    example,
)
from watertight.servers.nats.attacks.dialect import (
    NATSDialect,
    inbox_of,
    publish,
    subscribe,
)

EVERYTHING = (">", "*", "*.>", "*.*", "*.*.*")
SYSTEM_SUBJECTS = ("$SYS.>", "$SYS.ACCOUNT.>", "$SYS.SERVER.>", "$JS.>", "$JS.EVENT.>", "$G.>")
SYSTEM_REQUESTS = (
    "$SYS.REQ.SERVER.PING",
    "$SYS.REQ.SERVER.PING.VARZ",
    "$SYS.REQ.SERVER.PING.CONNZ",
    "$SYS.REQ.SERVER.PING.SUBSZ",
    "$SYS.REQ.ACCOUNT.PING.CONNZ",
    "$SYS.REQ.ACCOUNT.PING.STATZ",
    "$SYS.REQ.USER.INFO",
    "$SYS.REQ.SERVER.ANY.RELOAD",
    "$SYS.REQ.SERVER.ANY.KICK",
    "$SYS.OPERATOR.VARZ",
    "$SYS.OPERATOR.CONNZ",
    "$SYS.OPERATOR.SUBSZ",
)


def probes(dialect: NATSDialect, system: System, resource: Resource) -> Iterator[Probe]:
    """For each channel."""
    for caller in callers(dialect, system, resource):
        for identifier, subject in _publications(caller, resource):
            yield caller.attack(
                identifier,
                f"a publication to {subject} as {caller.service}",
                partial(publish, subject=subject),
            )
        for identifier, pattern in _subscriptions(caller, resource):
            yield caller.attack(
                identifier,
                f"a subscription to {pattern} as {caller.service}",
                partial(subscribe, subject=pattern),
            )
        pattern = next(iter(_foreign_patterns(caller)))
        yield caller.attack(
            "grants.queue",
            f"a place in a queue group on {pattern} as {caller.service}",
            partial(subscribe, subject=pattern, queue=LEAF),
        )


def _publications(caller: Caller, resource: Resource) -> Iterator[tuple[str, str]]:
    """Probe id and subject."""
    for subject in distinct(map(example, _named(caller)), caller.may_publish):
        yield "grants.publish", subject
    near = (shape for grant in caller.granted.publish for shape in _near(grant))
    for subject in distinct(near, caller.may_publish):
        yield "grants.publish-near", subject
    wild = (shape for grant in caller.granted.publish for shape in _wider(grant))
    for subject in distinct(wild, caller.may_publish):
        yield "grants.publish-wildcard", subject
    for other in _others(caller, resource):
        yield "inbox.publish", f"{inbox_of(other)}.{LEAF}"
    for subject in SYSTEM_REQUESTS:
        yield "system.request", subject


def _subscriptions(caller: Caller, resource: Resource) -> Iterator[tuple[str, str]]:
    """Probe id and pattern."""
    for pattern in _foreign_patterns(caller):
        yield "grants.subscribe", pattern
    own = (*caller.granted.subscribe, *caller.granted.publish)
    wider = (shape for grant in own for shape in _wider(grant))
    for pattern in distinct(wider, caller.may_subscribe):
        yield "grants.subscribe-wider", pattern
    for pattern in EVERYTHING:
        yield "grants.everything", pattern
    for other in _others(caller, resource):
        yield "inbox.subscribe", f"{inbox_of(other)}.>"
    for pattern in ("_INBOX.>", "_INBOX.*", "_INBOX.*.>", "_INBOX.*.*"):
        yield "inbox.everyone", pattern
    for pattern in SYSTEM_SUBJECTS:
        yield "system.subscribe", pattern


def _named(caller: Caller) -> Iterator[str]:
    """What is named anywhere at this server, and something that is not."""
    yield f"{LEAF}.ungranted"
    for stream in caller.streams:
        yield from stream.subjects
    for one in (caller, *caller.others):
        yield from one.granted.publish
        yield from one.granted.subscribe


def _foreign_patterns(caller: Caller) -> Iterator[str]:
    return distinct(_named(caller), caller.may_subscribe)


def _others(caller: Caller, resource: Resource) -> tuple[str, ...]:
    """The other callers, and the operator, who uses the server's own name."""
    return (*(other.service for other in caller.others), resource.name)


def _near(grant: str) -> Iterator[str]:
    """A sibling, a child, a parent, another case: what a careless match takes for the same."""
    tokens = example(grant).split(".")
    yield ".".join([*tokens[:-1], f"{tokens[-1]}-{LEAF}"])
    yield ".".join([*tokens, LEAF])
    yield ".".join(tokens).upper()
    if len(tokens) > 1:
        yield ".".join(tokens[:-1])
        yield ".".join([LEAF, *tokens[1:]])


def _wider(grant: str) -> Iterator[str]:
    """The same subject with wildcards where the grant has none."""
    tokens = grant.split(".")
    yield ".".join([*tokens[:-1], ">"])
    yield ".".join([*tokens[:-1], "*"])
    yield ".".join(["*", *tokens[1:]])
    yield f"{tokens[0]}.>"
