"""One delta xDS stream of one proxy, without any I/O: events go in, commands come out.

Rules D1 to D11 are those of the xDS protocol (https://www.envoyproxy.io/docs/envoy/latest/api-docs/
xds_protocol), as numbered in the tests beside this module. Three decisions are ours:

* **One response at a time for each type.** What changes while a proxy has not yet answered is
  compared once it has: a burst of changes costs two responses, a slow proxy no memory, and no
  timer is needed. Two things are never held back: the answer to a new subscription (the proxy is
  warming something that waits for it) and the removal of a listener (a revocation).
* **A type waits until the ones before it are in force** (D7: clusters, endpoints, listeners,
  extensions, routes; then removals). So a proxy that refuses a cluster keeps its last good routes,
  instead of routes to nothing. Extensions come before routes because routes name what they hold.
* **A refused batch is sent again one by one**, so that blame falls on exactly one resource, and on
  one line of the declaration. Envoy skips what it already has, so this disturbs nothing.

A type of which the control plane knows nothing *yet* is not answered at all: an empty answer would
take away the configuration of a proxy that outlived the control plane's restart (D11).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from watertight.dataplane.resources import ResourceType
from watertight.dataplane.xds.encode import Encoded, collective_version
from watertight.dataplane.xds.events import (
    REMOVED,
    Acknowledged,
    Command,
    Event,
    Overstepped,
    Refused,
    Requested,
    ResourcesChanged,
    Send,
)

ORDER = (
    ResourceType.SECRET,
    ResourceType.CLUSTER,
    ResourceType.ENDPOINT,
    ResourceType.LISTENER,
    ResourceType.EXTENSION,
    ResourceType.ROUTE,
)
"""Make in this order (D7). Secrets wait for nothing: a rotation never hangs on a bad cluster."""

WILDCARD = "*"
WILDCARD_TYPES = frozenset({ResourceType.CLUSTER, ResourceType.LISTENER})
"""The types for which a first request without names means everything (D4)."""

NAMED_TYPES = (ResourceType.ENDPOINT, ResourceType.EXTENSION, ResourceType.ROUTE)
"""What clusters and listeners refer to: a plan is not in force before each of them is held."""

UNCERTAIN = "?"
"""The version of what was in a refused batch: a proxy may have taken a part of it."""

MAX_NAMES = 10_000
MAX_NAME_BYTES = 1_024
MAX_OUTSTANDING = 10_000
"""Per type and stream: far above what a proxy of ours asks for, and what a hostile one gets."""


@dataclass(slots=True)
class _Watch:
    """What one proxy wants and has of one type."""

    wildcard: bool
    greeted: bool
    """A wildcard subscriber gets one answer even if there is nothing, else it waits for it."""
    names: set[str] = field(default_factory=set)
    held: dict[str, str] = field(default_factory=dict)
    """Name → version that the proxy said, or ACKed, that it has."""
    sent: dict[str, str] = field(default_factory=dict)
    """Name → version that it will have once it has ACKed everything."""
    outstanding: dict[str, Send] = field(default_factory=dict)
    urgent: set[str] = field(default_factory=set)
    """Names to answer even if they are unchanged or do not exist (D6, D8)."""
    missing: set[str] = field(default_factory=set)
    """Names that it asked for, that do not exist, and that it was told so."""
    suspects: list[str] = field(default_factory=list)
    """Names of a refused batch, to be sent one by one."""
    refused: dict[str, Refused] = field(default_factory=dict)

    def wants(self, name: str) -> bool:
        return self.wildcard or name in self.names

    def forget(self, name: str) -> None:
        for names in (self.held, self.sent, self.refused):
            names.pop(name, None)
        self.urgent.discard(name)
        self.missing.discard(name)
        if name in self.suspects:
            self.suspects.remove(name)


class Session:
    """The state of one stream. :meth:`handle` is the only way in."""

    def __init__(self) -> None:
        self._desired: dict[ResourceType, dict[str, Encoded]] = {}
        self._watches: dict[ResourceType, _Watch] = {}
        self._nonces = 0

    def handle(self, event: Event) -> list[Command]:
        """Takes one event and returns what to do now, in this order. Raises `Overstepped`."""
        if isinstance(event, ResourcesChanged):
            commands = self._change(event)
        else:
            commands = self._receive(event)
        return [*commands, *self._due()]

    @property
    def refusals(self) -> tuple[Refused, ...]:
        """Everything that the proxy refuses now."""
        return tuple(r for watch in self._watches.values() for r in watch.refused.values())

    @property
    def settling(self) -> bool:
        """Whether an answer of the proxy, or the blame for a refused batch, is still to come."""
        return any(watch.outstanding or watch.suspects for watch in self._watches.values())

    @property
    def versions(self) -> dict[ResourceType, str]:
        """For each subscribed type one version over all that the proxy holds of it."""
        return {type_: collective_version(watch.held) for type_, watch in self._watches.items()}

    def pending(self) -> Iterator[str]:
        """Why what is wanted is not yet in force, one clause each; nothing: it is in force."""
        for type_ in (ResourceType.CLUSTER, ResourceType.LISTENER):
            if type_ not in self._desired:
                yield f"it was given no {_kind(type_)}s yet"
            elif type_ not in self._watches:
                yield f"it has not asked for its {_kind(type_)}s"
        for type_, watch in self._watches.items():
            if watch.outstanding:
                yield f"it has not answered the last {_kind(type_)} response"
            elif watch.urgent or watch.suspects or self._changes(type_):
                yield f"a {_kind(type_)} response is still to be sent"
            for name in sorted(watch.missing):
                yield f"it asks for the {_kind(type_)} {name!r}, which does not exist"
        for type_ in NAMED_TYPES:
            watched = self._watches.get(type_)
            for name in self._desired.get(type_, {}):
                if watched is None or not watched.wants(name):
                    yield f"it has not asked for the {_kind(type_)} {name!r}"

    # Events

    def _change(self, event: ResourcesChanged) -> list[Command]:
        for type_ in event.types:
            self._desired[type_] = {}
            if watch := self._watches.get(type_):
                # To be asked again is to try again: the port may be free by now.
                watch.refused.clear()
                watch.suspects.clear()
        for (type_, name), encoded in event.resources.items():
            self._desired[type_][name] = encoded
        for type_, watch in self._watches.items():
            watch.missing -= self._desired.get(type_, {}).keys()
        return []

    def _receive(self, request: Requested) -> list[Command]:
        if any(len(name.encode()) > MAX_NAME_BYTES for name in request.subscribe):
            raise Overstepped(f"a name of more than {MAX_NAME_BYTES} bytes")
        watch = self._watches.get(request.type)
        if watch is None:
            commands = self._first(request)
        else:
            # The nonce may be stale: subscriptions are honoured all the same (D3).
            self._subscribe(watch, request)
            commands = []
        watch = self._watches[request.type]
        if answered := watch.outstanding.pop(request.nonce, None):
            if request.error is None:
                commands.append(_acknowledge(watch, answered))
            else:
                commands += _refuse(watch, answered, request.error)
        if len(watch.names) > MAX_NAMES:
            raise Overstepped(f"more than {MAX_NAMES} names of one type")
        if len(watch.outstanding) > MAX_OUTSTANDING:
            raise Overstepped(f"more than {MAX_OUTSTANDING} responses of one type unanswered")
        return commands

    def _first(self, request: Requested) -> list[Command]:
        """The first request of a type says what the proxy holds from an earlier stream (D6)."""
        implicit = not request.subscribe and request.type in WILDCARD_TYPES
        watch = _Watch(
            wildcard=implicit or WILDCARD in request.subscribe,
            greeted=bool(request.initial_versions),
            names=set(request.subscribe) - {WILDCARD},
        )
        self._watches[request.type] = watch
        versions = {n: v for n, v in request.initial_versions.items() if watch.wants(n)}
        watch.held.update(versions)
        watch.sent.update(versions)
        watch.urgent |= watch.names - versions.keys()
        return [Acknowledged(request.type, versions)] if versions else []

    def _subscribe(self, watch: _Watch, request: Requested) -> None:
        for name in request.unsubscribe:
            if name == WILDCARD:
                watch.wildcard = False
                for left in [n for n in watch.sent.keys() | watch.held if n not in watch.names]:
                    watch.forget(left)
                continue
            watch.names.discard(name)
            watch.forget(name)  # never asked for: nothing to forget (D6, phantom unsubscribe)
            if watch.wildcard:
                watch.urgent.add(name)  # it must learn whether it stays, as one of all (D6)
        for name in request.subscribe:
            if name == WILDCARD:
                watch.wildcard, watch.greeted = True, False
            else:
                watch.names.add(name)
                watch.urgent.add(name)  # asked for again: sent again, even if unchanged (D6)

    # What is to be sent

    def _due(self) -> Iterator[Command]:
        yield from self._removals(ResourceType.LISTENER)
        waiting = refused = False
        for type_ in ORDER:
            watch = self._watches.get(type_)
            if watch is None or type_ not in self._desired:
                continue
            yield from self._answers(type_, watch)
            if type_ is ResourceType.SECRET:
                yield from self._updates(type_, watch)
                continue
            # A proxy that just starts has no last good to keep, and waits for its first answer.
            if not waiting and not (refused and watch.greeted):
                yield from self._updates(type_, watch)
            waiting = waiting or bool(watch.outstanding)
            refused = refused or bool(watch.refused)
        if not waiting and not refused:
            for type_ in reversed(ORDER):
                yield from self._removals(type_)

    def _answers(self, type_: ResourceType, watch: _Watch) -> Iterator[Command]:
        """What was asked for by name, at once."""
        if watch.urgent:
            desired = self._desired[type_]
            found = [desired[n] for n in sorted(watch.urgent) if n in desired]
            absent = tuple(sorted(watch.urgent - desired.keys()))
            watch.missing.update(n for n in absent if n in watch.names)
            watch.urgent.clear()
            yield self._send(type_, watch, tuple(found), absent)

    def _updates(self, type_: ResourceType, watch: _Watch) -> Iterator[Command]:
        """What is new or other than before, if nothing of this type awaits an answer."""
        if watch.outstanding:
            return
        resources = self._changes(type_)
        if suspects := [e for e in resources if e.name in watch.suspects]:
            resources = suspects[:1]
            watch.suspects.remove(resources[0].name)
        else:
            watch.suspects.clear()
        if resources or (watch.wildcard and not watch.greeted):
            yield self._send(type_, watch, tuple(resources))

    def _changes(self, type_: ResourceType) -> list[Encoded]:
        """What the proxy wants and has not been sent in this version (D10)."""
        watch = self._watches[type_]
        return [
            encoded
            for name, encoded in self._desired.get(type_, {}).items()
            if watch.wants(name)
            and watch.sent.get(name) != encoded.version
            and (name not in watch.refused or watch.refused[name].version != encoded.version)
        ]

    def _removals(self, type_: ResourceType) -> Iterator[Command]:
        """What the proxy has and shall not have any more (D6)."""
        watch = self._watches.get(type_)
        if watch is None or type_ not in self._desired:
            return
        gone = watch.sent.keys() - self._desired[type_].keys() - watch.refused.keys()
        if gone:
            yield self._send(type_, watch, removed=tuple(sorted(gone)))

    def _send(
        self,
        type_: ResourceType,
        watch: _Watch,
        resources: tuple[Encoded, ...] = (),
        removed: tuple[str, ...] = (),
    ) -> Send:
        self._nonces += 1
        send = Send(type_, str(self._nonces), resources, removed)
        watch.greeted = True
        watch.outstanding[send.nonce] = send
        watch.sent.update((e.name, e.version) for e in resources)
        for name in removed:
            watch.sent.pop(name, None)
        return send


def _acknowledge(watch: _Watch, send: Send) -> Acknowledged:
    versions = {e.name: e.version for e in send.resources if watch.wants(e.name)}
    watch.held.update(versions)
    for name in (*versions, *send.removed):
        watch.refused.pop(name, None)
    for name in send.removed:
        watch.held.pop(name, None)
    return Acknowledged(send.type, versions | dict.fromkeys(send.removed, REMOVED))


def _refuse(watch: _Watch, send: Send, detail: str) -> Iterator[Command]:
    """Back to what the proxy held; one resource is to blame, or each is to be tried alone."""
    alone = len(send.resources) == 1
    for encoded in send.resources:
        if not watch.wants(encoded.name):
            continue
        if alone:
            _restore(watch, encoded.name)
            refused = Refused(send.type, encoded.name, encoded.version, detail, encoded.at)
            watch.refused[encoded.name] = refused
            yield refused
        else:
            watch.sent[encoded.name] = watch.held[encoded.name] = UNCERTAIN
            watch.suspects.append(encoded.name)
    for name in send.removed:
        _restore(watch, name)
        watch.refused[name] = Refused(send.type, name, REMOVED, detail)
        yield watch.refused[name]


def _restore(watch: _Watch, name: str) -> None:
    if name in watch.held:
        watch.sent[name] = watch.held[name]
    else:
        watch.sent.pop(name, None)


def _kind(type_: ResourceType) -> str:
    return type_.rpartition(".")[2]
