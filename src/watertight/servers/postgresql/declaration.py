"""What a declaration says of a PostgreSQL database: its own keys, and what channels grant.

Read by both sides, as the model is: by the compiler, and by the probes that attack its work.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field, PlainValidator, WithJsonSchema
from pydantic.config import JsonDict

from watertight.model import codes
from watertight.model.declaration import TEXT, Shape
from watertight.model.document import DocumentPath, quoted
from watertight.model.nearest import did_you_mean, one_of
from watertight.model.system import Channel, Resource, System
from watertight.model.values import Malformed, parse_file
from watertight.servers.postgresql.limits import (
    Connections,
    LimitKeys,
    SessionMemory,
    session_bytes,
    shares,
)

KIND = "postgresql"
MAX_NAME_BYTES = 63
"""NAMEDATALEN - 1: PostgreSQL cuts a longer name off without an error."""
DEFAULT_SCHEMA = "public"
OUR_SCHEMA = "watertight"
"""Where we keep what we know about the database."""
_NAME = re.compile(r"[^\W\d][\w$-]*")
_EXTENSION = re.compile(r"[a-z][a-z0-9_-]*")
_TAKEN_DATABASES = {"postgres", "template0", "template1"}
_TAKEN_SCHEMAS = {"information_schema", OUR_SCHEMA}
RESERVED_PREFIX = "pg_"


class Kind(StrEnum):
    """What a grant is about, in the words of the SQL statement."""

    TABLE = "table"
    SEQUENCE = "sequence"
    SCHEMA = "schema"
    FUNCTION = "function"


PRIVILEGES: Mapping[Kind, tuple[str, ...]] = {
    Kind.TABLE: (
        "select",
        "insert",
        "update",
        "delete",
        "truncate",
        "references",
        "maintain",
    ),
    Kind.SEQUENCE: ("usage", "select", "update"),
    Kind.SCHEMA: ("usage", "create"),
    Kind.FUNCTION: ("execute",),
}
"""What may be granted. Not TRIGGER: with it a service has others run its code as themselves."""
COLUMN_PRIVILEGES = ("select", "insert", "update", "references")
MAINTAIN = "maintain"
MAINTAIN_SINCE = 17
"""The major version that has it; before, who wants to ANALYZE or REINDEX must own the table."""


@dataclass(frozen=True, slots=True, order=True)
class Target:
    """A thing in the database: ``name`` is empty for a schema. Exact names, never folded."""

    kind: Kind
    schema: str
    name: str = ""

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}" if self.name else self.schema


@dataclass(frozen=True, slots=True, order=True)
class Grant:
    """One privilege on one thing, or on one column of it."""

    target: Target
    privilege: str
    """In lower case, as it is declared."""
    column: str | None = None

    def __str__(self) -> str:
        column = f" ({self.column})" if self.column else ""
        return f"{self.privilege}{column} on {self.target.kind} {self.target}"


# --- single values ------------------------------------------------------------------------------


def _malformed(message: str, remedy: str = "", inside: DocumentPath = ()) -> Malformed:
    return Malformed(codes.RESOURCE_GRANT, message, remedy, inside=inside)


def _name(value: Any, what: str) -> str:
    """A name that PostgreSQL keeps whole, and that can stand in every file of its configuration."""
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise Malformed(
            codes.RESOURCE_NAME,
            f"{quoted(value)} is not a name for {what}.",
            "Letters, digits, `_`, `$` and `-`, no digit first.",
        )
    length = len(value.encode())
    if length > MAX_NAME_BYTES:
        raise Malformed(
            codes.RESOURCE_NAME,
            f"The name {quoted(value)} has {length} bytes; "
            f"PostgreSQL keeps {MAX_NAME_BYTES} and forgets the rest.",
            "Shorten it.",
        )
    return value


def parse_database(value: Any) -> str:
    """The name of the database."""
    name = _name(value, "a database")
    if not name.isascii() or name in _TAKEN_DATABASES:
        raise Malformed(
            codes.RESOURCE_NAME,
            f"The database cannot be called {quoted(name)}: "
            + ("PostgreSQL has one of that name." if name.isascii() else "ASCII only."),
            "Choose another name.",
        )
    return name


def parse_extension(value: Any) -> str:
    """The name of an extension, as CREATE EXTENSION has it."""
    if not isinstance(value, str) or not _EXTENSION.fullmatch(value):
        raise Malformed(
            codes.RESOURCE_NAME,
            f"{quoted(value)} is not the name of an extension.",
            "For example `pgcrypto`.",
        )
    return _name(value, "an extension")


def parse_schema(value: Any) -> str:
    """The name of a schema in which something may be granted."""
    name = _name(value, "a schema")
    if name in _TAKEN_SCHEMAS or name.startswith(RESERVED_PREFIX):
        raise Malformed(
            codes.RESOURCE_NAME,
            f"Nothing can be granted in the schema {quoted(name)}: "
            + ("we keep our own records there." if name == OUR_SCHEMA else "it is PostgreSQL's."),
        )
    return name


def parse_object(value: Any) -> tuple[str, str]:
    """``orders`` or ``sales.orders`` → schema and name."""
    schema, dot, name = value.rpartition(".") if isinstance(value, str) else ("", "", value)
    return parse_schema(schema) if dot else DEFAULT_SCHEMA, _name(name, "an object")


def _privilege(value: Any, allowed: tuple[str, ...], inside: DocumentPath = ()) -> str:
    if isinstance(value, str) and value in allowed:
        return value
    remedy = did_you_mean(value.lower(), allowed) if isinstance(value, str) else ""
    if isinstance(value, str) and value.lower() in {"all", "all privileges"}:
        remedy = "Name each privilege that the service needs."
    raise _malformed(
        f"{quoted(value)} is not a privilege here; allowed: {one_of(allowed)}.", remedy, inside
    )


def _list(value: Any, what: str) -> list[Any]:
    if isinstance(value, list) and value:
        return value
    raise _malformed(f"{what} is a list that is not empty; it is {quoted(value)}.")


def _listed(value: Any, allowed: tuple[str, ...]) -> tuple[tuple[str, str | None], ...]:
    """``[select, insert]`` → (privilege, no column) each."""
    found = [
        (_privilege(word, allowed, (number,)), None)
        for number, word in enumerate(_list(value, "What is granted"))
    ]
    for number, pair in enumerate(found):
        if pair in found[:number]:
            raise _malformed(f"{quoted(pair[0])} stands here already.", "Delete one.", (number,))
    return tuple(found)


def parse_table_grants(value: Any) -> tuple[tuple[str, str | None], ...]:
    """``[select]``, or ``{select: [id, name], delete: }``-like columns → (privilege, column)."""
    if not isinstance(value, dict):
        return _listed(value, PRIVILEGES[Kind.TABLE])
    if not value:
        raise _malformed("Nothing is granted here.", "Name a privilege, or delete the table.")
    found: list[tuple[str, str | None]] = []
    for key, columns in value.items():
        try:
            privilege = _privilege(key, COLUMN_PRIVILEGES)
        except Malformed as error:
            remedy = error.remedy
            if key in PRIVILEGES[Kind.TABLE]:
                remedy = f"`{key}` is of whole tables: write the table's privileges as a list."
            raise Malformed(
                error.code, error.message, remedy, inside=(str(key),), on_key=True
            ) from error
        if not isinstance(columns, list) or not columns:
            raise _malformed(
                f"The columns of `{key}` are a list that is not empty; it is {quoted(columns)}.",
                inside=(key,),
            )
        for number, column in enumerate(columns):
            try:
                name = _name(column, "a column")
            except Malformed as error:
                raise Malformed(
                    error.code, error.message, error.remedy, inside=(key, number)
                ) from error
            if (privilege, name) in found:
                raise _malformed(f"{quoted(name)} stands here already.", inside=(key, number))
            found.append((privilege, name))
    return tuple(found)


def _parser(kind: Kind) -> Any:
    read = PlainValidator(lambda value: _listed(value, PRIVILEGES[kind]))
    return read, WithJsonSchema(_schema_of(kind))


def _schema_of(kind: Kind) -> JsonDict:
    return {"type": "array", "items": {"enum": list(PRIVILEGES[kind])}, "minItems": 1}


TABLE_GRANTS: JsonDict = {
    "anyOf": [
        _schema_of(Kind.TABLE),
        {
            "type": "object",
            "propertyNames": {"enum": list(COLUMN_PRIVILEGES)},
            "additionalProperties": {"type": "array", "items": {"type": "string"}, "minItems": 1},
        },
    ]
}


Privileges = tuple[tuple[str, str | None], ...]
TablePrivileges = Annotated[
    Privileges, PlainValidator(parse_table_grants), WithJsonSchema(TABLE_GRANTS)
]
Extension = Annotated[str, PlainValidator(parse_extension), WithJsonSchema(TEXT)]
ObjectName = Annotated[tuple[str, str], PlainValidator(parse_object)]


class DatabaseKeys(Shape):
    """The keys of a resource of kind ``postgresql``."""

    database: Annotated[str, PlainValidator(parse_database), WithJsonSchema(TEXT)]
    """The name of the database."""
    schema_file: Annotated[str | None, PlainValidator(parse_file), WithJsonSchema(TEXT)] = Field(
        default=None, alias="schema"
    )
    """A file of SQL that makes its tables; run whenever it changed."""
    extensions: list[Extension] = Field(default=[])
    """The extensions that it has."""
    connections: Connections = None
    """How many sessions its server takes at once; 100 unless stated. Channels have shares of it."""
    session_memory: SessionMemory = None
    """How much memory one session may take for itself; unless stated, what the server's memory has
    for each of the sessions that one service may have."""


class GrantKeys(LimitKeys):
    """What a channel to a database grants, and how much it may take."""

    tables: dict[
        ObjectName,
        TablePrivileges,
    ] = Field(default={})
    """Table or view → privileges, or privilege → columns."""
    sequences: dict[ObjectName, Annotated[Privileges, *_parser(Kind.SEQUENCE)]] = Field(default={})
    """Sequence → privileges."""
    schemas: dict[
        Annotated[str, PlainValidator(parse_schema)], Annotated[Privileges, *_parser(Kind.SCHEMA)]
    ] = Field(default={})
    """Schema → privileges; with `create` a service makes tables of its own there."""
    functions: dict[ObjectName, Annotated[Privileges, *_parser(Kind.FUNCTION)]] = Field(default={})
    """Function or procedure → `execute`."""
    temporary: bool = False
    """May make temporary tables, which only its own session sees."""
    advisory_locks: bool = False
    """May take advisory locks, which all who may share one number space; who has the database for
    itself may anyway."""


# --- what it says -------------------------------------------------------------------------------


def declared(resource: Resource) -> DatabaseKeys:
    """The resource's own keys. Raises ``ValueError`` on what :func:`check` refuses."""
    return DatabaseKeys.model_validate(dict(resource.options))


def channel_keys(channel: Channel) -> GrantKeys:
    """The channel's own keys. Raises ``ValueError`` on what :func:`check` refuses."""
    return GrantKeys.model_validate(dict(channel.options))


def server_shares(system: System, resource: Resource) -> Mapping[str, int]:
    """How many connections each service may have at once."""
    channels = list(system.incoming(resource.name))
    asked = [channel_keys(channel).connections for channel in channels]
    each = shares(declared(resource).connections, asked).each
    return {channel.source: number for channel, number in zip(channels, each, strict=True)}


def session_memory_bytes(system: System, resource: Resource) -> int:
    """Private memory that one session may take at a server of ours."""
    asked = [channel_keys(channel).connections for channel in system.incoming(resource.name)]
    return bytes_of_a_session(resource, declared(resource), asked)


def bytes_of_a_session(
    resource: Resource, wanted: DatabaseKeys, asked: Sequence[int | None]
) -> int:
    """The same by the keys that were read. ``asked``: the connections of each channel."""
    return wanted.session_memory or session_bytes(wanted.connections, asked, resource.limits)


def stated(channel: Channel) -> tuple[Grant, ...]:
    """Everything that the channel's keys name, in order; nothing of what follows from it.

    Raises ``ValueError`` on what :func:`check` refuses.
    """
    return tuple(sorted(_stated(channel_keys(channel)), key=str))


def _stated(shape: GrantKeys) -> Iterator[Grant]:
    named = (
        (Kind.TABLE, shape.tables),
        (Kind.SEQUENCE, shape.sequences),
        (Kind.FUNCTION, shape.functions),
    )
    for kind, objects in named:
        for (schema, name), privileges in objects.items():
            for privilege, column in privileges:
                yield Grant(Target(kind, schema, name), privilege, column)
    for schema, privileges in shape.schemas.items():
        for privilege, _ in privileges:
            yield Grant(Target(Kind.SCHEMA, schema), privilege)
