"""The rules that hold between the parts of a system: what a compiler could not honour is an error.

Pure functions from a :class:`System` to :class:`Flaw` values. The loader runs them before it
gives a system out; :mod:`watertight.model.lint` runs them on systems that a program built.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from watertight.model import codes
from watertight.model.document import DocumentPath, quoted
from watertight.model.findings import Severity
from watertight.model.kinds import kinds
from watertight.model.nearest import did_you_mean
from watertight.model.system import GATEWAY, Channel, HTTPGrant, Protocol, System


@dataclass(frozen=True, slots=True)
class Flaw:
    """Something wrong at ``path``: ``("channels", 2, "allow", 0)``, indices as in the System."""

    code: str
    path: DocumentPath
    message: str
    remedy: str = ""
    severity: Severity = Severity.ERROR
    on_key: bool = False


def flaws(system: System, broken: frozenset[str] = frozenset()) -> Iterator[Flaw]:
    """Every error between the parts.

    ``broken`` names services and resources that are declared but did not load: what depends on
    them is not judged, so that one mistake is one finding.
    """
    yield from _names(system, broken)
    seen: dict[tuple[str, str], int] = {}
    for number, channel in enumerate(system.channels):
        path: DocumentPath = ("channels", number)
        yield from _ends(system, channel, path, broken)
        yield from _grants(system, channel, path, broken)
        first = seen.setdefault((channel.source, channel.target), number)
        if first != number:
            yield Flaw(
                codes.DUPLICATE_CHANNEL,
                path,
                f"The channel `{channel.name}` was declared already, "
                f"at line {system.channels[first].at.line}.",
                "Put all its grants into one.",
            )


def _names(system: System, broken: frozenset[str]) -> Iterator[Flaw]:
    for name in system.resources:
        if name in system.services or (name in broken and name not in system.resources):
            yield Flaw(
                codes.NAME_TAKEN,
                ("resources", name),
                f"The name {quoted(name)} belongs to a service already.",
                "Services and resources share one set of names: choose another.",
                on_key=True,
            )
    for name, service in system.services.items():
        protocol = service.listens.protocol if service.listens else None
        if service.ready is not None and protocol is not Protocol.HTTP:
            yield Flaw(
                codes.READY_NEEDS_HTTP,
                ("services", name, "ready"),
                f"`ready` asks over HTTP, but {quoted(name)} "
                + (f"listens for {protocol}." if protocol else "does not listen."),
                "Delete `ready`: the service counts as ready once its port accepts.",
                on_key=True,
            )


def _ends(
    system: System, channel: Channel, path: DocumentPath, broken: frozenset[str]
) -> Iterator[Flaw]:
    source, target = channel.source, channel.target
    if source in system.resources:
        yield Flaw(
            codes.RESOURCE_CALLS,
            (*path, "from"),
            f"{quoted(source)} is a resource; only services open channels.",
        )
    elif source not in system.services and source not in broken:
        yield _undeclared(system, source, (*path, "from"), broken)
    if source == target:
        yield Flaw(
            codes.CHANNEL_TO_SELF,
            (*path, "to"),
            f"{quoted(source)} has a channel to itself.",
            "Delete it: a service reaches its own port on 127.0.0.1.",
        )
    elif target in system.services:
        if system.services[target].listens is None:
            yield Flaw(
                codes.NOT_LISTENING,
                (*path, "to"),
                f"{quoted(target)} has no `listens`, so nobody can call it.",
                f"Give {quoted(target)} a `listens: {{http: PORT}}`.",
            )
    elif target not in system.resources and target not in broken:
        yield _undeclared(system, target, (*path, "to"), broken)


def _undeclared(system: System, name: str, path: DocumentPath, broken: frozenset[str]) -> Flaw:
    if name == GATEWAY:
        return Flaw(
            codes.RESERVED_NAME,
            path,
            "The gateway takes no part in `channels`.",
            "Its channels follow from `gateway.routes`.",
        )
    known = {*system.services, *system.resources, *broken}
    return Flaw(
        codes.UNDECLARED,
        path,
        f"Nothing with the name {quoted(name)} is declared.",
        did_you_mean(name, known) or "Declare it under `services` or `resources`.",
    )


def _grants(
    system: System, channel: Channel, path: DocumentPath, broken: frozenset[str]
) -> Iterator[Flaw]:
    counts = Counter(channel.grants)
    seen = set()
    for number, grant in enumerate(channel.grants):
        if counts[grant] > 1 and grant in seen:
            yield Flaw(
                codes.DUPLICATE_GRANT,
                (*path, "allow", number),
                f"The grant {quoted(str(grant))} stands here already.",
                "Delete one of them.",
            )
        seen.add(grant)
    if channel.target in broken:
        return
    yield from _originates(system, channel, path)
    if channel.target in system.resources:
        yield from _not_on_bytes(channel, path, f"`{channel.target}` is a resource")
        return
    service = system.services.get(channel.target)
    if service is None or service.listens is None:
        return
    protocol = service.listens.protocol
    if protocol is Protocol.TCP:
        yield from _not_on_bytes(channel, path, f"`{channel.target}` listens for tcp")
        return
    for number, grant in enumerate(channel.grants):
        if isinstance(grant, HTTPGrant) != (protocol is Protocol.HTTP):
            yield Flaw(
                codes.GRANT_OF_OTHER_PROTOCOL,
                (*path, "allow", number),
                f"{quoted(str(grant))} is no grant for {quoted(channel.target)}, "
                f"which listens for {protocol}.",
                "Write a method and a path template: `GET /orders/*`."
                if protocol is Protocol.HTTP
                else "Write a gRPC method: `shop.Catalogue/Get`.",
            )


def _originates(system: System, channel: Channel, path: DocumentPath) -> Iterator[Flaw]:
    """A proxy can speak TLS for a client only where the server takes it from the first byte."""
    if not channel.originate:
        return
    resource = system.resources.get(channel.target)
    kind = kinds().get(resource.kind) if resource else None
    if kind is None or kind.originates is None:
        yield Flaw(
            codes.CANNOT_ORIGINATE,
            (*path, "originate"),
            f"{quoted(channel.target)} is "
            + (f"of kind {quoted(resource.kind)}" if resource else "a service")
            + ": no proxy speaks TLS to it in its client's place.",
            "Delete `originate`.",
            on_key=True,
        )


def _not_on_bytes(channel: Channel, path: DocumentPath, why: str) -> Iterator[Flaw]:
    if channel.grants:
        yield Flaw(
            codes.GRANT_NOT_ENFORCEABLE,
            (*path, "allow"),
            f"{why}: nobody there reads methods and paths, so these grants could not be enforced.",
            "Delete `allow`.",
            on_key=True,
        )
    for key, given in (
        ("timeout", channel.timeout_seconds is not None),
        ("retries", channel.retries > 0),
    ):
        if given:
            yield Flaw(
                codes.NOT_FOR_BYTES,
                (*path, key),
                f"{why}: there are no requests on this channel for `{key}` to count.",
                f"Delete `{key}`.",
                on_key=True,
            )
