"""Views, triggers and routines: what the schema file made, and what somebody did by hand.

They run code as whoever made them, and hold no data. What there is after the schema file has run is
right, and is written down in our own database; what differs from that is drift. What nobody wrote
down goes, and what is gone or changed the schema file makes again. Events there are none, for their
scheduler is off. Pure.
"""

# ruff: noqa: S608 - names and literals of ours

import json
from collections.abc import Iterable, Iterator

from watertight.servers.facts import Fact, fact
from watertight.servers.mariadb.compile import (
    DEFINITION,
    RECORD,
    SYSTEM_DATABASES,
    identifier,
    literal,
)
from watertight.servers.mariadb.declaration import OUR_DATABASE

NAME = "definitions"
TABLE = f"{OUR_DATABASE}.{NAME}"
_THEIRS = f"NOT IN ({', '.join(map(literal, SYSTEM_DATABASES))})"


def _hash(*columns: str) -> str:
    """One value for what they hold. NULLs are told apart from nothing."""
    texts = ", ".join(f"COALESCE({column}, '\\\\0')" for column in columns)
    return f"SHA2(CONCAT_WS('\\\\n', {texts}), 256)"


_VIEW = _hash("view_definition", "definer", "security_type", "check_option", "algorithm")
_TRIGGER = _hash(
    *("event_object_table", "event_manipulation", "action_timing", "action_order"),
    *("action_statement", "definer", "sql_mode"),
)
_ROUTINE = _hash(
    *("param_list", "returns", "body", "definer", "security_type", "sql_mode"),
    *("sql_data_access", "is_deterministic"),
)
PLACES = (
    (f"'VIEW', table_schema, table_name, {_VIEW}", "information_schema.views", "table_schema"),
    (
        f"'TRIGGER', trigger_schema, trigger_name, {_TRIGGER}",
        "information_schema.triggers",
        "trigger_schema",
    ),
    (f"type, db, name, {_ROUTINE}", "mysql.proc", "db"),
)
"""What tells of each: its word in SQL, database, name and a hash; where it stands; whose it is."""
LOOK = tuple(
    (f"'{DEFINITION}', {what}", f"{where} WHERE {whose} {_THEIRS}") for what, where, whose in PLACES
)
LOOK_AT_RECORD = ("kind, place, name, hash", TABLE)


def definition(kind: str, place: str, name: str, digest: str) -> Fact:
    """One that is there."""
    return fact(DEFINITION, (kind, place, name), text=digest)


def recorded(rows: Iterable[Iterable[str]]) -> Fact:
    """What was written down, as one fact."""
    return fact(RECORD, (), things=sorted(map(list, rows)))


def right(found: frozenset[Fact]) -> frozenset[Fact]:
    """The record that is there, with the definitions that it tells of.

    Where there is none yet, what is there is right: it is written down.
    """
    there = frozenset(one for one in found if one.kind == DEFINITION)
    for record in found:
        if record.kind == RECORD:
            return frozenset({record, *_told_by(record)})
    return there | {recorded([*one.key, dict(one.value)["text"]] for one in there)}


def _told_by(record: Fact) -> Iterator[Fact]:
    for kind, place, name, digest in json.loads(dict(record.value)["things"]):
        yield definition(kind, place, name, digest)


def keep() -> Iterator[str]:
    """Writes down what there is now."""
    yield (
        f"CREATE OR REPLACE TABLE {TABLE} (kind VARCHAR(20), place VARCHAR(64), name VARCHAR(64), "
        "hash CHAR(64)) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
    )
    for what, where, whose in PLACES:
        yield f"INSERT INTO {TABLE} SELECT {what} FROM {where} WHERE {whose} {_THEIRS}"


def drop(gone: Fact) -> str:
    """Takes one away."""
    kind, place, name = gone.key
    return f"DROP {kind} IF EXISTS {identifier(place)}.{identifier(name)}"
