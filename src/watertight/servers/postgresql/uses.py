"""Whether a channel grants one use of a database: what ``watertight explain`` answers."""

from watertight.model.system import Channel
from watertight.servers.postgresql.declaration import (
    DEFAULT_SCHEMA,
    PRIVILEGES,
    Kind,
    granted,
)

USES = tuple(f"{privilege} {kind.upper()}" for kind in Kind for privilege in PRIVILEGES[kind])
"""How one use is asked for."""


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
