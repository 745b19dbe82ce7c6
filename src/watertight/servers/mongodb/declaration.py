"""What a declaration says of a MongoDB database: its collections, and what channels grant.

Read by both sides, as the model is: by the compiler, and by the probes that attack its work.
"""

import re
from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import Field, PlainValidator

from watertight.enforcers.resource import channels_to, keys
from watertight.model import codes
from watertight.model.declaration import Shape
from watertight.model.document import DocumentPath, quoted
from watertight.model.nearest import did_you_mean, one_of
from watertight.model.rules import Flaw
from watertight.model.system import Channel, Resource, System
from watertight.model.values import Malformed
from watertight.servers.flaws import grants_nothing, repeated

KIND = "mongodb"
ACTIONS = ("find", "insert", "update", "remove", "index")
"""What may be granted, in mongod's words (manual, "Privilege Actions"); ``index``: to make and
remove indexes. Nothing makes or removes a collection but the declaration."""
CHANGES = ("update", "remove")
"""They find first, and tell how much they found."""
CONNECTIONS, MAX_CONNECTIONS = 128, 10_000
"""A driver's pool holds up to 100, and looks at the server by two or three more."""
MAX_CALLERS = 36
"""PostgreSQL keeps eight connections for each (ADR 51)."""
TAKEN = ("admin", "config", "local", "public", "information_schema")
_DATABASE = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_COLLECTION = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,119}")


def _database(value: Any) -> str:
    """Small letters: mongod keeps no two databases apart by their case alone."""
    if not isinstance(value, str) or not _DATABASE.fullmatch(value):
        raise Malformed(
            codes.RESOURCE_NAME,
            f"{quoted(value)} is not a name for a database.",
            "At most 63 small letters, digits, `_` and `-`, a letter first.",
        )
    if value in TAKEN or value.startswith("pg_"):
        raise Malformed(
            codes.RESOURCE_NAME,
            f"The database cannot be called {quoted(value)}: the server has one of that name.",
            "Choose another name.",
        )
    return value


def _collection(value: Any) -> str:
    if not isinstance(value, str) or not _COLLECTION.fullmatch(value):
        raise Malformed(
            codes.RESOURCE_NAME,
            f"{quoted(value)} is not a name for a collection.",
            "At most 120 letters, digits, `_`, `.` and `-`, a letter first.",
        )
    if value.startswith("system."):
        raise Malformed(
            codes.RESOURCE_NAME,
            "Names that begin with `system.` are the server's own.",
            "Choose another name.",
        )
    return value


def _action(value: Any) -> str:
    if value in ACTIONS:
        return str(value)
    also = {"read": "find", "delete": "remove", "createIndex": "index", "write": "insert"}
    raise Malformed(
        codes.RESOURCE_GRANT,
        f"{quoted(value)} is not something to grant here; allowed: {one_of(ACTIONS)}.",
        did_you_mean(also.get(value, value), ACTIONS) if isinstance(value, str) else "",
    )


Name = Annotated[str, PlainValidator(_collection)]
Connections = Annotated[int, Field(ge=1, le=MAX_CONNECTIONS, strict=True)]


class DatabaseKeys(Shape):
    """A MongoDB server with one database."""

    database: Annotated[str, PlainValidator(_database)]
    """The name of the database."""
    collections: list[Name] = Field(default=[])
    """The collections; they are made if they are not there, and never removed while they hold
    anything."""


class ChannelKeys(Shape):
    """What a service may do in a database."""

    collections: dict[Name, list[Annotated[str, PlainValidator(_action)]]] = Field(default={})
    """Collection → `find`, `insert`, `update`, `remove`, and `index` for making indexes."""
    connections: Connections = CONNECTIONS
    """How many connections the service may have open at once; 128 unless stated."""


def declared(resource: Resource) -> DatabaseKeys:
    """The resource's own keys. Raises ``ValueError`` on what :func:`check` refuses."""
    return DatabaseKeys.model_validate(dict(resource.options))


def granted(channel: Channel) -> ChannelKeys:
    """The channel's own keys. Raises ``ValueError`` on what :func:`check` refuses."""
    return ChannelKeys.model_validate(dict(channel.options))


def check(system: System, resource: Resource) -> Iterator[Flaw]:
    """What is wrong with the resource's own keys, and with the channels to it."""
    path: DocumentPath = ("resources", resource.name)
    wanted, flaws = keys(DatabaseKeys, path, resource.options)
    yield from flaws
    if wanted is not None:
        yield from repeated((*path, "collections"), wanted.collections)
    callers = list(channels_to(system, resource.name))
    for where, channel in callers:
        asked, flaws = keys(ChannelKeys, where, channel.options)
        yield from flaws
        if asked is None:
            continue
        if not any(asked.collections.values()):
            yield grants_nothing(where, channel, "Give it `collections`.")
        for name, actions in asked.collections.items():
            inside = (*where, "collections", name)
            yield from repeated(inside, actions)
            if wanted is not None and name not in wanted.collections:
                yield Flaw(
                    codes.RESOURCE_GRANT,
                    inside,
                    f"There is no collection {quoted(name)}.",
                    did_you_mean(name, wanted.collections)
                    or "Declare it under `collections` of the resource.",
                    on_key=True,
                )
            for number, action in enumerate(actions):
                if action in CHANGES and "find" not in actions:
                    yield Flaw(
                        codes.RESOURCE_GRANT,
                        (*inside, number),
                        f"Whoever may `{action}` finds what he changes, and learns of it.",
                        "Grant `find`, too.",
                    )
    if len(callers) > MAX_CALLERS and not resource.external:
        yield Flaw(
            codes.RESOURCE_KEY,
            path,
            f"{len(callers)} services use {quoted(resource.name)}; its server takes {MAX_CALLERS}.",
            "Divide it into two resources.",
        )


USES = (
    "find COLLECTION",
    "insert COLLECTION",
    "update COLLECTION",
    "remove COLLECTION",
    "index COLLECTION",
)
"""How one use is asked for."""


def grant_for(channel: Channel, action: str, thing: str) -> str | None:
    """The grant that lets the service do it; None: no grant does.

    Raises ``ValueError`` for an action that there is not.
    """
    verb = action.lower()
    if verb not in ACTIONS:
        raise ValueError(action)
    return f"{verb} {thing}" if verb in granted(channel).collections.get(thing, ()) else None
