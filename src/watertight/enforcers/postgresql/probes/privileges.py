"""The statement that uses one privilege, and no more: for what is granted and for what is not.

Columns and overloads are read from the catalogs, as an attacker would: anybody may read those.
"""

from collections.abc import Sequence

from watertight.enforcers.attack.wire import Absent
from watertight.enforcers.postgresql.declaration import (
    COLUMN_PRIVILEGES,
    MAINTAIN,
    MAINTAIN_SINCE,
    Target,
)
from watertight.enforcers.postgresql.probes.attempts import (
    Attempt,
    identifier,
    literal,
    spelled,
)
from watertight.enforcers.postgresql.probes.session import Session

READ_ONLY = "BEGIN READ ONLY"
"""In it ``nextval`` and ``setval`` are refused after the permission is judged, undone or not."""
PROBE = "watertight_probe"
NO = "22012"
"""division_by_zero: how :func:`may` says no."""
SEPARATOR = "chr(31)"
WRONG_KIND = frozenset({"0A000", "42809", "55000", "428C9", "42P17", "42703"})
"""Not for such a thing at all (a view that cannot be written, a generated column …)."""


async def columns(session: Session, target: Target, *, writable: bool) -> list[str]:
    """The columns of a table, or those that can be written. Raises ``Absent``: no such table."""
    found = await session.query(
        "SELECT attname, attgenerated FROM pg_attribute a "
        "JOIN pg_class c ON c.oid = attrelid JOIN pg_namespace n ON n.oid = relnamespace "
        f"WHERE nspname = {literal(target.schema)} AND relname = {literal(target.name)} "
        "AND attnum > 0 AND NOT attisdropped ORDER BY attnum"
    )
    if not found.rows:
        raise Absent(f"no table {target} yet")
    return [str(name) for name, generated in found.rows if not (writable and generated)]


def on_table(target: Target, privilege: str, column: str) -> Attempt:
    """Uses a privilege on one column of a table, and on no row of it."""
    table, name = spelled(target), identifier(column)
    return {
        "select": Attempt(f"SELECT {name} FROM {table} LIMIT 0"),
        "insert": Attempt(
            f"INSERT INTO {table} ({name}) OVERRIDING SYSTEM VALUE SELECT NULL WHERE false"
        ),
        "update": Attempt(f"UPDATE {table} SET {name} = DEFAULT WHERE false"),
        "references": may(
            f"has_column_privilege({literal(table)}, {literal(column)}, 'references')"
        ),
    }[privilege]


def on_whole_table(target: Target, privilege: str) -> Attempt:
    """Uses a privilege that columns do not have, or that asks for all of them."""
    table = spelled(target)
    return {
        "select": Attempt(f"SELECT * FROM {table} LIMIT 0"),
        "delete": Attempt(f"DELETE FROM {table} WHERE false"),
        "truncate": Attempt(f"TRUNCATE {table}", after=frozenset({"0A000"})),
        # Judged first; then there is no such index (undefined_object).
        "maintain": Attempt(f"CLUSTER {table} USING {PROBE}", after=frozenset({"42704"})),
    }[privilege]


def on_sequence(target: Target, privilege: str) -> Attempt:
    """Uses a privilege on a sequence, and no number of it."""
    name = literal(spelled(target))
    after = frozenset({"25006"})  # read_only_sql_transaction: judged after the permission
    return {
        "usage": Attempt(f"SELECT nextval({name})", after, READ_ONLY),
        "select": Attempt(f"SELECT last_value FROM {spelled(target)}", frozenset(), READ_ONLY),
        "update": Attempt(f"SELECT setval({name}, 1)", after, READ_ONLY),
    }[privilege]


def on_schema(target: Target, privilege: str) -> Attempt:
    """Uses a privilege on a schema: looks for what is not there, or makes what goes again."""
    schema = spelled(target)
    if privilege == "create":
        return Attempt(f"CREATE TABLE {schema}.{PROBE} ()")
    return Attempt(f"SELECT FROM {schema}.{PROBE}", after=frozenset({"42P01"}))


async def calls(session: Session, target: Target) -> Sequence[Attempt]:
    """Calls every function of that name, with nulls and for no row: it is judged, and not run.

    Where nulls have no type (``anyelement``), and for procedures, the server is asked. Raises
    ``Absent``: there is none.
    """
    found = await session.query(
        f"SELECT coalesce((SELECT string_agg(format_type(t, NULL), {SEPARATOR} ORDER BY i) "
        "FROM unnest(proargtypes) WITH ORDINALITY a(t, i)), ''), p.oid::text, "
        "prokind = 'f' AND NOT EXISTS (SELECT FROM unnest(proargtypes) t "
        "JOIN pg_type y ON y.oid = t WHERE typtype = 'p'), provariadic <> 0 "
        "FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace "
        f"WHERE nspname = {literal(target.schema)} AND proname = {literal(target.name)}"
    )
    if not found.rows:
        raise Absent(f"no function {target} yet")
    return [
        _call(target, str(types).split("\x1f") if types else [], variadic=variadic == "t")
        if callable_ == "t"
        else may(f"has_function_privilege({oid}, 'EXECUTE')")
        for types, oid, callable_, variadic in found.rows
    ]


def _call(target: Target, types: list[str], *, variadic: bool) -> Attempt:
    """OFFSET keeps the planner from folding the call away before anybody judges it."""
    given = ", ".join(f"NULL::{kind} AS a{number}" for number, kind in enumerate(types)) or "1"
    names = [f"a{number}" for number in range(len(types))]
    if variadic:  # else its array would be taken for one element
        names[-1] = f"VARIADIC {names[-1]}"
    arguments = ", ".join(names)
    return Attempt(
        f"SELECT {spelled(target)}({arguments}) FROM (SELECT {given} OFFSET 0) v WHERE false"
    )


def may(privilege: str) -> Attempt:
    """Asks the server itself, where trying would do something or cannot be done."""
    return Attempt(f"SELECT 1 / ({privilege})::int", no=frozenset({NO}))


def may_on_table(target: Target, privilege: str) -> Attempt:
    """Asks whether any of a table is open, whatever kind of table it is."""
    check = "any_column" if privilege in COLUMN_PRIVILEGES else "table"
    holds = f"has_{check}_privilege(c.oid, {literal(privilege)})"
    if privilege == MAINTAIN:  # an older server does not know the word
        known = f"current_setting('server_version_num')::int >= {MAINTAIN_SINCE}0000"
        holds = f"CASE WHEN {known} THEN {holds} ELSE false END"
    return Attempt(
        f"SELECT 1 / bool_or({holds})::int "
        "FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace "
        f"WHERE nspname = {literal(target.schema)} AND relname = {literal(target.name)}",
        no=frozenset({NO}),
    )
