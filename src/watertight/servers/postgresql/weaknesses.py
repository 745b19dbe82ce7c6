"""What PostgreSQL leaves open between services, and nobody can close: the proof says it. Pure."""

from collections.abc import Iterator

from watertight.model import codes
from watertight.model.document import quoted
from watertight.model.findings import Finding, Severity
from watertight.model.system import Resource, System
from watertight.servers.postgresql.declaration import KIND, channel_keys
from watertight.servers.postgresql.uses import granted


def weaknesses(system: System) -> Iterator[Finding]:
    """``NOTIFY`` and ``LISTEN``, for which there is no privilege, wherever services share one.

    And a leap in memory by temporary tables (ADR 24), and foreign keys where others run the server.
    """
    for resource in system.resources.values():
        sharing = [quoted(c.source) for c in system.incoming(resource.name)]
        if resource.kind == KIND and not resource.external and len(sharing) > 1:
            yield from _leaps(system, resource)
        if resource.kind == KIND and resource.external:
            yield from _keys(system, resource)
        if resource.kind == KIND and len(sharing) > 1:
            yield Finding(
                codes.UNDECLARED_NOTICES,
                f"PostgreSQL lets whoever may log in NOTIFY and LISTEN, and the channel does not "
                f"say so, at {quoted(resource.name)}: {', '.join(sharing)}.",
                resource.at,
                remedy="Let none of them trust a notification or put a secret into one; or give "
                "each a database of its own.",
                severity=Severity.WARNING,
            )


def _keys(system: System, resource: Resource) -> Iterator[Finding]:
    """What an event trigger of ours refuses at our own servers (ADR 26)."""
    have = []
    for channel in system.incoming(resource.name):
        privileges = {grant.privilege for grant in granted(channel)}
        if privileges >= {"create", "references"}:
            have.append(channel.source)
    if have:
        yield Finding(
            codes.KEY_BY_OTHERS,
            f"A service that makes tables which refer to others' has its code run as their owner: "
            f"{quoted(resource.name)} ({', '.join(have)}).",
            resource.at,
            remedy="Grant it `references` or `create`, not both; or let us run the server.",
            severity=Severity.WARNING,
        )


def _leaps(system: System, resource: Resource) -> Iterator[Finding]:
    have = [c.source for c in system.incoming(resource.name) if channel_keys(c).temporary]
    if have:
        yield Finding(
            codes.TEMPORARY_LEAP,
            f"A service with temporary tables can fill its memory in one leap, and end everybody's "
            f"sessions: {quoted(resource.name)} ({', '.join(have)}).",
            resource.at,
            remedy="Grant `temporary: true` to those only that you trust with the server.",
            severity=Severity.WARNING,
        )
