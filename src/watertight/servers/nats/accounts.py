"""An account a service, and one between them. Pure.

Within one account, whoever can have the server publish for him (a reply, a delivery, a trace)
reaches everybody there, past his permissions: the server asks nobody before it answers to a
subject that a caller chose. So each service is alone in an account of its own, and what passes
between two accounts is named on both sides:

* What one publishes and another hears, the other imports as a *stream*. What the server itself
  brings into an account from a service does not go on into a stream.
* Where an answer may come (a stream of JetStream acknowledges, a service has ``reply``), it is
  imported as a *service*, by way of the account ``SERVICES``, where streams are kept and nobody is
  but the operator. The subject of the reply stays outside, and the answer comes back into the
  account that asked, and into no other.

A service that publishes what it hears would hear itself twice, and nats-server refuses imports that
come back to where they started. It hears everything by way of ``SERVICES``; its publications are
moved out of the way below ``_OUT``, what comes in below ``_IN``, and back on the other side.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from watertight.enforcers.resource import channels_to
from watertight.model.system import Resource, System
from watertight.servers.nats.declaration import Grants, Server, grants
from watertight.servers.nats.storage import api_subjects
from watertight.servers.nats.subjects import common, overlap, widest

ACCOUNT = "SERVICES"
"""The account between all others; streams are kept in it."""
SYSTEM_ACCOUNT = "SYSTEM"
"""The server's own; it has no user."""
VARZ = "$SYS.OPERATOR.VARZ"
"""Tells when the configuration was loaded."""
CONNZ = "$SYS.OPERATOR.CONNZ"
"""Tells the connections that are open, or have ended."""
ASKED = {
    VARZ: "$SYS.REQ.SERVER.PING.VARZ",
    CONNZ: "$SYS.REQ.SERVER.PING.CONNZ",
}
"""What the operator may ask the system account, and how it is called there. Not by the names that
every account has without an import: nats-server 2.9 loses those as it reloads."""
_KICK, _KICK_THERE = "$SYS.OPERATOR.KICK.*", "$SYS.REQ.SERVER.*.KICK"
"""Ends one connection; since 2.10.9. The star stands for the server's id."""
SUBSZ, _SUBSZ_THERE = "$SYS.OPERATOR.SUBSZ", "$SYS.REQ.SERVER.PING.SUBSZ"
"""Tells how many messages an import has taken. For the guard, so not where it can end nothing."""
REPLY_SECONDS = 60
FETCH_SECONDS = 300
"""How long a fetch may wait for its next message or heartbeat."""
ACK_SECONDS = 5
"""How long the server keeps the way back for its word on an acknowledgement. That comes at once, or
never: of what is acknowledged already, or was not delivered, it says nothing (seen on 2.15)."""
UNANSWERED_SECONDS = 1
"""How long the server keeps the way back for a message that nobody may answer."""
_JETSTREAM_INFO = "$JS.API.INFO"
_NOWHERE = "_NOWHERE"
"""Nobody hears it. An account that imports JetStream's INFO from there gets no import of the whole
API from the server, whose answer (it is off for this account) would come before the true one."""
_ANSWERS = "_R_.>"
"""What the server puts in place of the subject of a reply: once a request, and only in the account
that is asked. Not ``allow_responses``: a reload forgets those, and an answer would be lost."""
_OUT = "_OUT"
_IN = "_IN"


@dataclass(frozen=True, slots=True)
class Member:
    """One service; what it may publish and hear, so that no subject is in two of them."""

    service: str
    granted: Grants
    publish: tuple[str, ...]
    subscribe: tuple[str, ...]

    @property
    def hears_itself(self) -> bool:
        """Whether it may publish something that it may hear."""
        return any(overlap(out, inward) for out in self.publish for inward in self.subscribe)

    @property
    def by_way(self) -> bool:
        """Whether what it hears comes by way of the account between."""
        return self.granted.reply or self.hears_itself

    @property
    def out(self) -> str:
        """What stands before its publications once they are out of its own way."""
        return f"{_OUT}." if self.hears_itself else ""

    @property
    def inward(self) -> str:
        """What stands before what it hears as that comes into its account."""
        return f"{_IN}." if self.hears_itself else ""


@dataclass(frozen=True, slots=True)
class WayBack:
    """An import by which requests of a service go, whose ways back last: no answer is the last."""

    service: str
    subject: str
    """As it is called in the account of the service, where nothing else has that name."""
    seconds: int
    """For how long each stands, unless something comes back by it."""


@dataclass(slots=True)
class _Export:
    """What an account offers, and to whom."""

    kind: str
    subject: str
    accounts: list[str] = field(default_factory=list)
    streamed: bool = False
    """More than one answer may come."""
    seconds: int = REPLY_SECONDS
    """How long the way back stands without an answer."""

    def text(self) -> str:
        takers = ", ".join(map(quoted, sorted(self.accounts)))
        line = f"{self.kind}: {quoted(self.subject)}, accounts: [{takers}]"
        if self.kind == "service":
            answers = "stream" if self.streamed else "singleton"
            line += f', response_type: {answers}, response_threshold: "{self.seconds}s"'
        return f"{{ {line} }}"


@dataclass(frozen=True, slots=True)
class _Layout:
    """Who meets whom at one server."""

    members: Sequence[Member]
    kept: Sequence[str]
    """The subjects of JetStream's streams."""
    jetstream: bool
    wanted: Server

    def answered(self, subject: str) -> bool:
        """Whether somebody may answer what is published to it."""
        kept = any(overlap(subject, other) for other in self.kept)
        return kept or self.answered_by_services(subject)

    def answered_by_services(self, subject: str) -> bool:
        """Whether services may, more than once for all. A stream acknowledges once: only then does
        the server forget the way back with the answer."""
        answering = (s for one in self.members if one.granted.reply for s in one.subscribe)
        return any(overlap(subject, other) for other in answering)

    def taken(self, subject: str) -> bool:
        """Whether something in the account between takes it."""
        hearing = (s for one in self.members if one.by_way for s in one.subscribe)
        return any(overlap(subject, other) for other in (*hearing, *self.kept))

    def flows(self, source: Member, target: Member) -> Iterator[str]:
        """What goes straight from one to another."""
        if source is not target and not target.by_way:
            for out in source.publish:
                yield from (common(out, s) for s in target.subscribe if overlap(out, s))

    def api(self, one: Member) -> Sequence[str]:
        """What one may ask of JetStream."""
        return api_subjects(one.service, one.granted, self.wanted)


def accounts(
    system: System, resource: Resource, wanted: Server, *, operator: str | None
) -> Iterator[str]:
    """The accounts of one server.

    ``operator``: the resource whose own SVID provisions; None where somebody else does.
    """
    layout = _layout(system, resource, wanted)
    yield "accounts {"
    guarded = {SUBSZ: _SUBSZ_THERE, _KICK: _KICK_THERE} if wanted.tls_first else {}
    asked = {**ASKED, **guarded} if operator else {}
    exports = [f"{{ service: {quoted(name)}, accounts: [{ACCOUNT}] }}" for name in asked.values()]
    yield f"  {SYSTEM_ACCOUNT} {{ users: [], exports: [{', '.join(exports)}] }}"
    yield f"  {ACCOUNT} {{"
    if layout.jetstream:
        yield "    jetstream: enabled"
    yield from _block("exports", [e.text() for e in _between(layout)])
    imports = [_service(SYSTEM_ACCOUNT, name, ours) for ours, name in asked.items()]
    moved: dict[str, str] = {}
    for one in layout.members:
        if one.by_way:
            imports += [_service(one.service, f"{one.inward}{s}", s) for s in one.subscribe]
        if one.out:
            moved |= {f"{one.out}{s}": s for s in one.publish if layout.taken(s)}
    yield from _block("imports", imports)
    yield from _mappings(moved)
    if operator:
        asks = [*asked, *(["$JS.API.>"] if layout.jetstream else [])]
        yield "    users: ["
        yield from user(system.spiffe_id(operator), asks, [f"{inbox(operator)}.>"])
        yield "    ]"
    else:
        yield "    users: []"
    yield "  }"
    for one in layout.members:
        yield from _own(system, one, layout)
    yield "}"
    yield f"system_account: {SYSTEM_ACCOUNT}"


def ways_back(system: System, resource: Resource, wanted: Server) -> Sequence[WayBack]:
    """What the server keeps of requests for longer than until the first answer."""
    return [
        WayBack(service, one.subject, one.seconds)
        for one in _between(_layout(system, resource, wanted))
        if one.streamed
        for service in one.accounts
    ]


def _layout(system: System, resource: Resource, wanted: Server) -> _Layout:
    kept = [s for stream in wanted.streams.values() for s in stream.subjects]
    return _Layout(members_of(system, resource), kept, bool(wanted.streams), wanted)


def members_of(system: System, resource: Resource) -> Sequence[Member]:
    """The services that have a channel to the server, by name."""
    return [
        Member(channel.source, wanted, widest(wanted.publish), widest(wanted.subscribe))
        for _, channel in sorted(channels_to(system, resource.name), key=lambda c: c[1].source)
        for wanted in (grants(channel),)
    ]


class _Exports(dict[tuple[str, str], _Export]):
    """What an account offers, each subject once."""

    def offer(self, account: str, made: _Export) -> None:
        """To one more account."""
        self.setdefault((made.kind, made.subject), made).accounts.append(account)


def _between(layout: _Layout) -> Sequence[_Export]:
    """What the account between offers."""
    found = _Exports()
    for one in layout.members:
        for subject in filter(layout.taken, one.publish):
            seconds = REPLY_SECONDS if layout.answered(subject) else UNANSWERED_SECONDS
            name = f"{one.out}{subject}"
            many = layout.answered_by_services(subject)
            found.offer(one.service, _Export("service", name, streamed=many, seconds=seconds))
        for subject in layout.api(one):
            fetch = ".MSG.NEXT." in subject
            ack = subject.startswith("$JS.ACK.")
            seconds = FETCH_SECONDS if fetch else ACK_SECONDS if ack else REPLY_SECONDS
            found.offer(one.service, _Export("service", subject, streamed=fetch, seconds=seconds))
        if layout.jetstream:
            found.offer(one.service, _Export("service", _NOWHERE, seconds=UNANSWERED_SECONDS))
    return list(found.values())


def _own(system: System, one: Member, layout: _Layout) -> Iterator[str]:
    """The account of one service."""
    yield f"  {quoted(one.service)} {{"
    limits = one.granted
    yield (
        f"    limits {{ max_connections: {limits.connections}, "
        f"max_subscriptions: {limits.subscriptions}, "
        f"max_payload: {limits.max_payload_bytes or layout.wanted.max_payload_bytes} }}"
    )
    exports = _Exports()
    for target in layout.members:
        for subject in layout.flows(one, target):
            exports.offer(target.service, _Export("stream", f"{one.out}{subject}"))
    if one.by_way:
        seconds = REPLY_SECONDS if one.granted.reply else UNANSWERED_SECONDS
        for subject in one.subscribe:
            exports.offer(ACCOUNT, _Export("service", f"{one.inward}{subject}", seconds=seconds))
    yield from _block("exports", [e.text() for e in exports.values()])
    imports = [
        _import("stream", source.service, f"{source.out}{subject}", subject)
        for source in layout.members
        for subject in layout.flows(source, one)
    ]
    taken = list(filter(layout.taken, one.publish))
    imports += [_service(ACCOUNT, f"{one.out}{s}", f"{one.out}{s}") for s in taken]
    imports += [_service(ACCOUNT, subject, subject) for subject in layout.api(one)]
    if layout.jetstream:
        imports.append(_service(ACCOUNT, _NOWHERE, _JETSTREAM_INFO))
    yield from _block("imports", imports)
    moved = {s: f"{one.out}{s}" for s in one.publish if one.out}
    moved |= {f"{one.inward}{s}": s for s in one.subscribe if one.inward}
    yield from _mappings(moved)
    publish = [*one.granted.publish, *layout.api(one)]
    # The server judges a publication by the subject to which it was moved.
    publish += [f"{one.out}{s}" for s in one.publish if one.out]
    if one.granted.reply:
        publish.append(_ANSWERS)
    yield "    users: ["
    name = system.spiffe_id(one.service)
    yield from user(name, publish, [*one.granted.subscribe, f"{inbox(one.service)}.>"])
    yield "    ]"
    yield "  }"


def user(name: str, publish: Sequence[str], subscribe: Sequence[str]) -> Iterator[str]:
    """One user and all it may do.

    An empty ``allow`` means everything (verified on 2.9 and 2.15), so nothing is said as
    ``deny``.
    """
    yield f"      {{ user: {quoted(name)}, permissions: {{"
    allowed = f"allow: [{_list(publish)}]" if publish else 'deny: [">"]'
    yield f"        publish: {{ {allowed} }}"
    yield f"        subscribe: {{ allow: [{_list(subscribe)}] }}"
    yield "      } }"


def kick(server: str) -> str:
    """What the operator asks the server with this id, to end a connection."""
    return _KICK.replace("*", server)


def inbox(service: str) -> str:
    """The prefix of the inboxes of one service."""
    return f"_INBOX.{service}"


def quoted(text: str) -> str:
    """A string of the configuration language, which takes JSON's."""
    return json.dumps(text)


def _service(account: str, subject: str, local: str) -> str:
    return _import("service", account, subject, local)


def _import(kind: str, account: str, subject: str, local: str) -> str:
    source = f"{{ account: {quoted(account)}, subject: {quoted(subject)} }}"
    name = f", to: {quoted(local)}" if local != subject else ""
    return f"{{ {kind}: {source}{name} }}"


def _mappings(moved: Mapping[str, str]) -> Iterator[str]:
    if moved:
        yield "    mappings {"
        for source, target in moved.items():
            yield f"      {quoted(source)}: {quoted(_numbered(target))}"
        yield "    }"


def _numbered(pattern: str) -> str:
    """``a.*.b.*`` as the target of a mapping: ``a.$1.b.$2``."""
    count = 0
    parts = []
    for part in pattern.split("."):
        count += part == "*"
        parts.append(f"${count}" if part == "*" else part)
    return ".".join(parts)


def _block(name: str, items: Sequence[str]) -> Iterator[str]:
    if items:
        yield f"    {name}: ["
        yield from (f"      {item}" for item in items)
        yield "    ]"


def _list(subjects: Sequence[str]) -> str:
    return ", ".join(map(quoted, subjects))
