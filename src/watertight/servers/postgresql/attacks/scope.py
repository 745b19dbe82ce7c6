"""What there is to attack at one database: everything that any channel names, and for whom."""

from dataclasses import dataclass

from watertight.attack.login import Login
from watertight.model.system import Resource, System
from watertight.servers.postgresql.declaration import (
    DEFAULT_SCHEMA,
    PRIVILEGES,
    Grant,
    GrantKeys,
    Kind,
    Target,
    channel_keys,
    session_memory_bytes,
    stated,
)


@dataclass(frozen=True, slots=True)
class Scope:
    """One channel: what it grants, among all that is declared at its database."""

    login: Login
    keys: GrantKeys
    grants: tuple[Grant, ...]
    others: tuple[str, ...]
    """The other services that may log in there."""
    others_create: frozenset[str]
    """The schemas in which they make things of their own."""
    targets: tuple[Target, ...]
    """Everything that any channel to the database names."""
    memory_bytes: int
    """What one session may take."""

    @property
    def creates(self) -> frozenset[str]:
        """The schemas in which the service makes things of its own, and may do so."""
        return frozenset(g.target.schema for g in self.grants if g.privilege == "create")

    def has(self, target: Target, privilege: str) -> bool:
        """Whether all of ``target`` is granted."""
        return Grant(target, privilege) in self.grants

    def columns(self, target: Target, privilege: str) -> frozenset[str]:
        """The columns that are granted."""
        return frozenset(
            g.column
            for g in self.grants
            if g.column and g.target == target and g.privilege == privilege
        )

    def attacked(self, kind: Kind) -> tuple[Target, ...]:
        """What of this kind it could own, it may do anything with: that is left out."""
        return tuple(t for t in self.targets if t.kind is kind and t.schema not in self.creates)

    def ungranted(self, target: Target) -> tuple[str, ...]:
        """The privileges on ``target`` that are not granted for the whole of it."""
        return tuple(p for p in PRIVILEGES[target.kind] if not self.has(target, p))


def scopes(system: System, resource: Resource) -> tuple[Scope, ...]:
    """One for each channel to ``resource``."""
    channels = tuple(system.incoming(resource.name))
    grants = {channel.source: _may(stated(channel)) for channel in channels}
    create = {
        source: frozenset(g.target.schema for g in some if g.privilege == "create")
        for source, some in grants.items()
    }
    targets = {grant.target for some in grants.values() for grant in some}
    targets.add(Target(Kind.SCHEMA, DEFAULT_SCHEMA))
    memory = session_memory_bytes(system, resource)
    ordered = tuple(sorted(targets, key=lambda t: (t.kind, t)))
    return tuple(
        Scope(
            Login(system, resource, service),
            channel_keys(channel),
            grants[service],
            tuple(other for other in grants if other != service),
            frozenset().union(*(some for other, some in create.items() if other != service)),
            ordered,
            memory,
        )
        for channel in channels
        for service in (channel.source,)
    )


def _may(grants: tuple[Grant, ...]) -> tuple[Grant, ...]:
    """What is named, and the schemas that one must look into for it (manual, section 5.10.4)."""
    schemas = dict.fromkeys(Target(Kind.SCHEMA, grant.target.schema) for grant in grants)
    looked_into = (Grant(schema, "usage") for schema in schemas)
    return tuple(dict.fromkeys((*grants, *looked_into)))
