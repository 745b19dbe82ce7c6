"""What a declaration says of a MariaDB database: its own keys, and what channels grant.

Read by both sides, as the model is: by the compiler, and by the probes that attack its work.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, TypeAlias

from pydantic import Field, PlainValidator, WithJsonSchema
from pydantic.config import JsonDict

from watertight.enforcers.resource import channels_to, keys
from watertight.model import codes
from watertight.model.declaration import TEXT, Shape
from watertight.model.document import DocumentPath, quoted
from watertight.model.findings import Severity
from watertight.model.nearest import did_you_mean, one_of
from watertight.model.rules import Flaw
from watertight.model.system import Channel, Resource, System
from watertight.model.values import Malformed, parse_file

KIND = "mariadb"
OUR_DATABASE = "watertight"
"""Where we keep which schema files have run."""
TAKEN = {"information_schema", "mysql", "performance_schema", "sys", OUR_DATABASE}
MAX_NAME = 64
"""Characters of the name of a database, table or column (MariaDB manual, Identifier Names)."""
CLIENT_HOST = "127.0.0.1"
"""The host part of every service's account: each comes through the server's own proxy."""
SERVER_CONNECTIONS = 500
"""What a server takes at once, unless stated: one that nobody uses costs next to nothing."""
SPARE_CONNECTIONS = 10
"""Of them, those for us."""
CONNECTIONS = 20
"""What one service may have open at once, unless stated."""
MAX_CONNECTIONS = 1_000
DOOR_SHARE = 2
"""How many connections a service's door lets through for each session that it may have: some have
not logged in yet, or are just ending."""
PRIVILEGES = ("select", "insert", "update", "delete")
"""What may be stated. No DDL: tables are the schema file's; whoever made one could give it a
trigger or a view that runs as its definer."""
COLUMN_PRIVILEGES = ("insert", "update")
"""``select`` is none: who may read one column reads the others by ``HANDLER``, and compares them by
joins that name no column (seen on 10.11.19). A view has the columns that it shows."""
_NAME = re.compile(r"[A-Za-z_][\w$-]*", re.ASCII)

Privileges: TypeAlias = tuple[tuple[str, str], ...]
"""(privilege, column) each; the column is empty for the whole table."""


@dataclass(frozen=True, slots=True, order=True)
class Grant:
    """One privilege on a table or view, or on one column of it."""

    table: str
    privilege: str
    column: str = ""

    def __str__(self) -> str:
        column = f" ({self.column})" if self.column else ""
        return f"{self.privilege}{column} on table {self.table}"


def _name(value: Any, what: str) -> str:
    if not isinstance(value, str) or not _NAME.fullmatch(value) or len(value) > MAX_NAME:
        raise Malformed(
            codes.RESOURCE_NAME,
            f"{quoted(value)} is not a name for {what}.",
            f"At most {MAX_NAME} letters, digits, `_`, `$` and `-`, a letter or `_` first.",
        )
    return value


def _database(value: Any) -> str:
    name = _name(value, "a database")
    if name.lower() in TAKEN:
        raise Malformed(
            codes.RESOURCE_NAME,
            f"The database cannot be called {quoted(name)}: the server has one of that name.",
            "Choose another name.",
        )
    return name


def _privilege(value: Any, allowed: tuple[str, ...], inside: DocumentPath) -> str:
    if isinstance(value, str) and value in allowed:
        return value
    raise Malformed(
        codes.RESOURCE_GRANT,
        f"{quoted(value)} is not a privilege here; allowed: {one_of(allowed)}.",
        did_you_mean(value.lower(), allowed) if isinstance(value, str) else "",
        inside=inside,
    )


def _privileges(value: Any) -> Privileges:
    """``[select, insert]``, or ``{update: [id, name]}``: privilege → columns."""
    if not isinstance(value, list | dict) or not value:
        raise Malformed(
            codes.RESOURCE_GRANT,
            f"{quoted(value)} does not say what is stated.",
            "Write a list of privileges, or privilege → list of columns.",
        )
    found: list[tuple[str, str]] = []
    places: list[DocumentPath] = []
    if isinstance(value, list):
        for number, word in enumerate(value):
            found.append((_privilege(word, PRIVILEGES, (number,)), ""))
            places.append((number,))
    else:
        for word, columns in value.items():
            if word == "select":
                raise Malformed(
                    codes.RESOURCE_GRANT,
                    "MariaDB holds nobody who may read some columns to these: HANDLER reads all.",
                    "Make a view of them in the schema file, and grant `select` on that.",
                    inside=(word,),
                )
            privilege = _privilege(word, COLUMN_PRIVILEGES, (str(word),))
            if not isinstance(columns, list) or not columns:
                raise Malformed(
                    codes.RESOURCE_GRANT,
                    f"The columns of `{word}` are a list that is not empty; "
                    f"it is {quoted(columns)}.",
                    inside=(word,),
                )
            for number, column in enumerate(columns):
                found.append((privilege, _name(column, "a column")))
                places.append((word, number))
    for number, one in enumerate(found):
        if one in found[:number]:
            raise Malformed(
                codes.DUPLICATE_GRANT,
                f"{quoted(one[1] or one[0])} stands here already.",
                "Delete one of them.",
                inside=places[number],
            )
    return tuple(found)


PRIVILEGES_SCHEMA: JsonDict = {
    "anyOf": [
        {"type": "array", "items": {"enum": list(PRIVILEGES)}, "minItems": 1},
        {"type": "object", "additionalProperties": {"type": "array", "items": {"type": "string"}}},
    ]
}
Connections = Annotated[int, Field(ge=1, le=MAX_CONNECTIONS, strict=True)]
ServerConnections = Annotated[int, Field(ge=50, le=100_000, strict=True)]


class DatabaseKeys(Shape):
    """A MariaDB server with one database."""

    database: Annotated[str, PlainValidator(_database), WithJsonSchema(TEXT)]
    """The name of the database."""
    schema_file: Annotated[str | None, PlainValidator(parse_file), WithJsonSchema(TEXT)] = Field(
        default=None, alias="schema"
    )
    """A file of SQL that makes its tables, run by the server's operator whenever it changed."""
    connections: ServerConnections = SERVER_CONNECTIONS
    """How many connections its server takes at once; 500 unless stated. Each service has a part."""


class GrantKeys(Shape):
    """What a channel to a database grants."""

    tables: dict[
        Annotated[str, PlainValidator(lambda value: _name(value, "a table"))],
        Annotated[Privileges, PlainValidator(_privileges), WithJsonSchema(PRIVILEGES_SCHEMA)],
    ] = Field(default={})
    """Table or view → privileges, or privilege → columns."""
    connections: Connections = CONNECTIONS
    """How many sessions the service may have at once; 20 unless stated."""


def declared(resource: Resource) -> DatabaseKeys:
    """The resource's own keys. Raises ``ValueError`` on what :func:`check` refuses."""
    return DatabaseKeys.model_validate(dict(resource.options))


def channel_keys(channel: Channel) -> GrantKeys:
    """The channel's own keys. Raises ``ValueError`` on what :func:`check` refuses."""
    return GrantKeys.model_validate(dict(channel.options))


def stated(channel: Channel) -> tuple[Grant, ...]:
    """Everything that the channel grants, in order. Raises as :func:`channel_keys`."""
    tables = channel_keys(channel).tables
    return tuple(sorted(Grant(t, *one) for t, privileges in tables.items() for one in privileges))


def check(system: System, resource: Resource) -> Iterator[Flaw]:
    """What is wrong with the resource's own keys, and with the channels to it."""
    path: DocumentPath = ("resources", resource.name)
    server, flaws = keys(DatabaseKeys, path, resource.options)
    yield from flaws
    taken = SPARE_CONNECTIONS
    for where, channel in channels_to(system, resource.name):
        wanted, flaws = keys(GrantKeys, where, channel.options)
        yield from flaws
        taken += DOOR_SHARE * (wanted.connections if wanted else 0)
        if wanted is not None and not wanted.tables:
            yield Flaw(
                codes.GRANTS_NOTHING,
                where,
                f"The channel `{channel.name}` grants nothing: {quoted(channel.source)} may log "
                "in, and that is all.",
                "Give it `tables`.",
                Severity.WARNING,
            )
    if server is not None and taken > server.connections:
        yield Flaw(
            codes.RESOURCE_KEY,
            path,
            f"The channels to {quoted(resource.name)} may take {taken} connections (twice what "
            f"each says, and {SPARE_CONNECTIONS}); the server takes {server.connections}.",
            f"Write `connections: {taken}`, or fewer in the channels.",
        )
