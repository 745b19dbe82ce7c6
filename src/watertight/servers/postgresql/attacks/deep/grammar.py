"""SQL that nobody thought of: what to do, to what, and wrapped in what; each part knows its needs.

No statement touches a row. ``LIMIT 0`` and, where only tables are named, ``WHERE false`` do not
change what is asked for; but the planner drops columns that nobody wants and queries of a join that
is false, and then nobody asks whether they are permitted (seen on PostgreSQL 15 and 17). The first
possibility is always the plainest.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from watertight.attack.choices import Choices
from watertight.servers.postgresql.attacks.attempts import identifier, literal, spelled
from watertight.servers.postgresql.attacks.deep.oracle import ANY, Need
from watertight.servers.postgresql.declaration import Target

NAME = "watertight_probe"


@dataclass(frozen=True)
class World:
    """What there is to name."""

    tables: Mapping[Target, tuple[str, ...]]
    """With the columns that can be written."""
    functions: Mapping[Target, tuple[str, ...]]
    """With a call of each overload, as a query of no row."""
    sequences: tuple[Target, ...]
    others: tuple[str, ...]
    """Other services' roles."""
    temporary: bool
    """Whether temporary things may be made."""


@dataclass(frozen=True)
class Statement:
    """What is sent, and all that it certainly needs."""

    sql: str
    needs: tuple[Need, ...] = ()
    query: bool = False
    """It gives rows, and may stand where a query may."""
    changes: bool = False
    """INSERT, UPDATE or DELETE: it may stand in WITH, and be explained."""
    calls: bool = False
    """It needs what it needs only while its columns are wanted: else nothing is called."""
    reads_only: bool = False
    """To be run in a transaction that only reads."""


def generate(choices: Choices, world: World) -> Statement:
    """One statement, plain or wrapped, as oneself or as somebody else."""
    inner = _statement(choices, world)
    wrapped = _wrapped(choices, world, inner) if choices.rarely(2) else inner
    if world.others and choices.rarely(10):
        role = choices.one(world.others)
        how = choices.one(("SET LOCAL ROLE", "SET ROLE", "SET LOCAL SESSION AUTHORIZATION"))
        need = Need((), what=f"the role {role}")
        sql = f"{how} {identifier(role)}; {wrapped.sql}"
        return Statement(sql, (need, *wrapped.needs), reads_only=wrapped.reads_only)
    return wrapped


def _statement(choices: Choices, world: World) -> Statement:
    usable: list[Callable[[Choices, World], Statement]] = []
    if world.tables:
        usable += [_select, _select, _update, _insert, _delete, _merge, _locked, _owned, _truncate]
    if world.functions:
        usable.append(_call)
    if world.sequences:
        usable += [_sequence, _number]
    return choices.one(usable)(choices, world) if usable else Statement("SELECT 1", query=True)


def _table(choices: Choices, world: World) -> tuple[Target, str, str]:
    """A table, its name as SQL, and one of its columns."""
    target = choices.one(tuple(world.tables))
    name = spelled(target)
    if choices.rarely(6):
        name = f"ONLY {name}"
    return target, name, choices.one(world.tables[target])


def _more(choices: Choices, world: World, depth: int) -> tuple[str, tuple[Need, ...]]:
    """What else is read: in FROM, for of what stands among the columns the planner drops much."""
    if depth >= 2 or not choices.rarely(4):
        return "", ()
    inner = _select(choices, world, depth + 1)
    return f" CROSS JOIN ({inner.sql}) q{depth}", inner.needs


def _select(choices: Choices, world: World, depth: int = 0) -> Statement:
    target, name, column = _table(choices, world)
    alias = f"t{depth}"
    needs = [Need(("select",), target, ANY)]
    listed = choices.one(("count(*)", f"{alias}.{identifier(column)}", f"{alias}"))
    if listed.startswith(f"{alias}."):
        needs = [Need(("select",), target, column)]
    elif listed == alias:  # a whole row
        needs = [Need(("select",), target, each) for each in world.tables[target]]
    more, others = _more(choices, world, depth)
    source = f"{name} {alias}"
    if choices.rarely(5):
        joined, other, by = _table(choices, world)
        source += f" LEFT JOIN {other} j{depth} ON j{depth}.{identifier(by)} IS NULL"
        # A join that changes nothing may be taken out, but is permitted or not all the same.
        needs.append(Need(("select",), joined, by))
    source += more
    where = ""
    if choices.rarely(4):
        # Not IS NULL: since 17 the planner knows which columns never are.
        where = f" WHERE {alias}.{identifier(column)}::text = {literal(NAME)}"
        needs.append(Need(("select",), target, column))
    sql = f"SELECT {listed} FROM {source}{where}"
    sql += " LIMIT 0"
    if choices.rarely(6) and listed != "count(*)":
        sql += f" FOR {choices.one(('UPDATE', 'SHARE', 'KEY SHARE', 'NO KEY UPDATE'))} OF {alias}"
        needs.append(Need(("update",), target, ANY))
    return Statement(sql, (*needs, *others), query=True)


def _returning(choices: Choices, target: Target, column: str) -> tuple[str, tuple[Need, ...]]:
    if not choices.rarely(4):
        return "", ()
    return f" RETURNING {identifier(column)}", (Need(("select",), target, column),)


def _update(choices: Choices, world: World) -> Statement:
    target, name, column = _table(choices, world)
    needs = [Need(("update",), target, column)]
    sql = f"UPDATE {name} SET {identifier(column)} = DEFAULT"
    if choices.rarely(4):
        other, source, _ = _table(choices, world)
        sql += f" FROM {source} f"
        needs.append(Need(("select",), other, ANY))
    back, more = _returning(choices, target, column) if " FROM " not in sql else ("", ())
    return Statement(f"{sql} WHERE false{back}", (*needs, *more), changes=True)


def _insert(choices: Choices, world: World) -> Statement:
    target, name, column = _table(choices, world)
    name = name.removeprefix("ONLY ")
    needs = [Need(("insert",), target, column)]
    sql = f"INSERT INTO {name} ({identifier(column)}) OVERRIDING SYSTEM VALUE SELECT NULL"
    sql += " WHERE false"
    if choices.rarely(5):
        sql += " ON CONFLICT DO NOTHING"
    back, read = _returning(choices, target, column)
    return Statement(sql + back, (*needs, *read), changes=True)


def _delete(choices: Choices, world: World) -> Statement:
    target, name, column = _table(choices, world)
    needs = [Need(("delete",), target)]
    sql = f"DELETE FROM {name}"
    if choices.rarely(4):
        other, source, _ = _table(choices, world)
        sql += f" USING {source} u"
        needs.append(Need(("select",), other, ANY))
        return Statement(f"{sql} WHERE false", tuple(needs), changes=True)
    back, read = _returning(choices, target, column)
    return Statement(f"{sql} WHERE false{back}", (*needs, *read), changes=True)


def _merge(choices: Choices, world: World) -> Statement:
    target, name, column = _table(choices, world)
    what, need = choices.one(
        (
            (
                f"MATCHED AND false THEN UPDATE SET {identifier(column)} = DEFAULT",
                Need(("update",), target, column),
            ),
            ("MATCHED AND false THEN DELETE", Need(("delete",), target)),
            (
                f"NOT MATCHED AND false THEN INSERT ({identifier(column)}) VALUES (DEFAULT)",
                Need(("insert",), target, column),
            ),
        )
    )
    sql = f"MERGE INTO {name} m USING (SELECT 1) s ON m.ctid IS NULL WHEN {what}"
    return Statement(sql, (need,))


def _locked(choices: Choices, world: World) -> Statement:
    """LOCK TABLE: the strong modes ask for a privilege to change (manual, LOCK, Notes)."""
    target, name, _ = _table(choices, world)
    mode = choices.one(("SHARE", "SHARE ROW EXCLUSIVE", "EXCLUSIVE"))
    need = Need(("update", "delete", "truncate", "maintain"), target)
    return Statement(f"LOCK TABLE {name} IN {mode} MODE NOWAIT", (need,))


def _owned(choices: Choices, world: World) -> Statement:
    """What only an owner may; tables of others always belong to the operator."""
    target, name, column = _table(choices, world)
    table, name = spelled(target), identifier(column)
    sql = choices.one(
        (
            f"COMMENT ON COLUMN {table}.{name} IS NULL",
            f"ALTER TABLE {table} ADD COLUMN {NAME} int",
            f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY",
            f"ALTER TABLE {table} OWNER TO CURRENT_USER",
            f"ALTER TABLE {table} ALTER COLUMN {name} SET STATISTICS 1",
            f"CREATE INDEX ON {table} ({name})",
            f"CREATE RULE {NAME} AS ON UPDATE TO {table} DO INSTEAD NOTHING",
            f"CREATE STATISTICS {identifier(target.schema)}.{NAME} ON {name}, ctid FROM {table}",
            f"DROP TABLE {table}",
        )
    )
    return Statement(sql, (Need((), target, what="ownership"),))


def _truncate(choices: Choices, world: World) -> Statement:
    target, name, _ = _table(choices, world)
    return Statement(f"TRUNCATE {name}", (Need(("truncate",), target),))


def _call(choices: Choices, world: World) -> Statement:
    target = choices.one(tuple(world.functions))
    call = choices.one(world.functions[target])
    return Statement(call, (Need(("execute",), target),), query=True, calls=True)


def _sequence(choices: Choices, world: World) -> Statement:
    target = choices.one(world.sequences)
    sql = f"SELECT last_value FROM {spelled(target)} LIMIT 0"
    return Statement(sql, (Need(("select",), target),), query=True)


def _number(choices: Choices, world: World) -> Statement:
    target = choices.one(world.sequences)
    name = literal(spelled(target))
    sql, privileges = choices.one(
        (
            (f"SELECT nextval({name})", ("usage", "update")),
            (f"SELECT setval({name}, 1)", ("update",)),
            (f"SELECT setval({name}, 1, false)", ("update",)),
        )
    )
    return Statement(sql, (Need(privileges, target),), reads_only=True)


def _wrapped(choices: Choices, world: World, inner: Statement) -> Statement:
    """The same in other words; needs stay, for nothing is permitted by being wrapped."""
    sql = inner.sql
    quoted = literal(sql)
    ways = [f"DO {literal(f'BEGIN EXECUTE {quoted}; END')}"]
    if inner.query or inner.changes:
        ways += [
            f"PREPARE {NAME} AS {sql}; EXECUTE {NAME}; DEALLOCATE {NAME}",
            f"EXPLAIN {sql}",
            f"EXPLAIN (ANALYZE, COSTS off) {sql}",
        ]
    if inner.changes:
        ways.append(f"WITH w AS ({sql}) SELECT 1")
    needs = inner.needs
    if inner.query and not inner.reads_only:
        locks = " FOR " in sql
        ways += [
            f"DECLARE {NAME} CURSOR FOR {sql}",
            f"SELECT query_to_xml({quoted}, true, false, '')",
            f"COPY ({sql}) TO STDOUT",
        ]
    if inner.query and not inner.reads_only and not inner.calls:
        ways += [
            f"WITH w AS ({sql}) SELECT count(*) FROM w",
            f"SELECT ARRAY(SELECT 1 FROM ({sql}) q)",
            f"SELECT 1 FROM (VALUES (1)) v, LATERAL ({sql}) q",
        ]
        if world.temporary and not locks:
            ways.append(f"CREATE TEMPORARY TABLE {NAME} (a) AS {sql}; SELECT count(*) FROM {NAME}")
    return Statement(choices.one(ways), needs, reads_only=inner.reads_only)
