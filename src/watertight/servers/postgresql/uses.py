"""What a channel grants, and whether one use of a database is among it (``watertight explain``)."""

from watertight.model.system import Channel
from watertight.servers.postgresql.declaration import (
    DEFAULT_SCHEMA,
    PRIVILEGES,
    Grant,
    Kind,
    Target,
    stated,
)

USES = tuple(f"{privilege} {kind.upper()}" for kind in Kind for privilege in PRIVILEGES[kind])
"""How one use is asked for."""


def granted(channel: Channel) -> tuple[Grant, ...]:
    """Everything that the channel grants, in order, with what follows from it.

    To touch a thing in a schema takes USAGE of the schema, so each grant brings that along.
    Raises ``ValueError`` on what ``check`` refuses.
    """
    found = set(stated(channel))
    found |= {Grant(Target(Kind.SCHEMA, grant.target.schema), "usage") for grant in found}
    return tuple(sorted(found, key=str))


def grant_for(channel: Channel, action: str, thing: str) -> str | None:
    """The grants that let the service do it to a table, sequence, schema or function.

    ``thing`` is a name as channels have it; None: no grant does. Raises ``ValueError`` for an
    action that is no privilege.
    """
    privilege = action.lower()
    if not any(privilege in known for known in PRIVILEGES.values()):
        raise ValueError(action)
    schema, _, name = thing.rpartition(".")
    wanted = {(schema or DEFAULT_SCHEMA, name), (thing, "")}
    fitting = [
        grant
        for grant in granted(channel)
        if grant.privilege == privilege and (grant.target.schema, grant.target.name) in wanted
    ]
    return ", ".join(map(str, fitting)) or None
