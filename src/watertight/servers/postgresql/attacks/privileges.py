"""The statement that uses one privilege, and no more: for what is granted and for what is not.

Columns and overloads are read from the catalogs, as an attacker would: anybody may read those.
"""

import secrets
from collections.abc import Sequence
from dataclasses import replace

from watertight.attack.wire import Absent
from watertight.servers.postgresql.attacks.attempts import (
    NO,
    Attempt,
    asked,
    identifier,
    literal,
    spelled,
)
from watertight.servers.postgresql.attacks.scope import Scope
from watertight.servers.postgresql.attacks.session import Session
from watertight.servers.postgresql.declaration import (
    COLUMN_PRIVILEGES,
    MAINTAIN,
    MAINTAIN_SINCE,
    Kind,
    Target,
)

READ_ONLY = "BEGIN READ ONLY"
"""In it ``nextval`` and ``setval`` are refused after the permission is judged, undone or not."""
PROBE = f"watertight_probe_{secrets.token_hex(8)}"
"""What we make, or ask for where it is not: nobody can have put his own there before us."""
OWNER = "watertight_owner"
"""To whom belongs what the schema file makes."""
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
    ask = has_column(target, privilege, column)
    return {
        "select": Attempt(f"SELECT {name} FROM {table} LIMIT 0", ask=ask),
        "insert": Attempt(
            f"INSERT INTO {table} ({name}) OVERRIDING SYSTEM VALUE SELECT NULL WHERE false", ask=ask
        ),
        "update": Attempt(f"UPDATE {table} SET {name} = DEFAULT WHERE false", ask=ask),
        "references": may_on_column(target, privilege, column),
    }[privilege]


def on_whole_table(target: Target, privilege: str) -> Attempt:
    """Uses a privilege that columns do not have, or that asks for all of them."""
    table = spelled(target)
    ask = f"has_table_privilege({literal(table)}, {literal(privilege)})"
    return {
        "select": Attempt(f"SELECT * FROM {table} LIMIT 0", ask=ask),
        "delete": Attempt(f"DELETE FROM {table} WHERE false", ask=ask),
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


async def calls(session: Session, target: Target, *, ask: bool = False) -> Sequence[Attempt]:
    """Calls every function of that name, with nulls and for no row: it is judged, and not run.

    Where nulls have no type (``anyelement``), for procedures, and if ``ask``, the server is asked.
    Raises ``Absent``: there is none.
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
        replace(_call(target, _split(types), variadic=variadic == "t"), ask=has)
        if callable_ == "t" and not ask
        else may(has)
        for types, oid, callable_, variadic in found.rows
        for has in (f"has_function_privilege({oid}, 'EXECUTE')",)
    ]


def _split(types: str | None) -> list[str]:
    return types.split("\x1f") if types else []


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


async def of_another(session: Session, scope: Scope, target: Target) -> bool:
    """Whether it belongs to another service, so that nobody may use it to see whether he can.

    Who uses such a thing runs its owner's code (triggers, policies, what a view or a default calls)
    as himself; part of it is run before the server judges any permission. The server is asked then.
    """
    if target.schema in scope.others_create:
        return True  # now, or in a moment
    name = ("relname", "relowner", "pg_class", "relnamespace")
    if target.kind is Kind.FUNCTION:
        name = ("proname", "proowner", "pg_proc", "pronamespace")
    called, owner, catalog, schema = name
    found = await session.query(
        f"SELECT FROM {catalog} JOIN pg_namespace n ON n.oid = {schema} "
        f"WHERE nspname = {literal(target.schema)} AND {called} = {literal(target.name)} "
        f"AND {owner} >= 16384 AND pg_get_userbyid({owner}) NOT IN (current_user, '{OWNER}')"
    )
    return bool(found.rows)


def may(privilege: str) -> Attempt:
    """Asks the server itself, where trying would do something or cannot be done."""
    return Attempt(asked(privilege), no=frozenset({NO}))


def may_on_sequence(target: Target, privilege: str) -> Attempt:
    """Asks whether a sequence is open."""
    return may(f"has_sequence_privilege({literal(spelled(target))}, {literal(privilege)})")


def may_on_column(target: Target, privilege: str, column: str) -> Attempt:
    """Asks whether one column is open."""
    return may(has_column(target, privilege, column))


def has_column(target: Target, privilege: str, column: str) -> str:
    """The privilege on one column, as an expression."""
    name = literal(spelled(target))
    return f"has_column_privilege({name}, {literal(column)}, {literal(privilege)})"


def may_on_table(target: Target, privilege: str, *, whole: bool = False) -> Attempt:
    """Asks whether any of a table is open, or all of it, whatever kind of table it is."""
    check = "any_column" if privilege in COLUMN_PRIVILEGES and not whole else "table"
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
