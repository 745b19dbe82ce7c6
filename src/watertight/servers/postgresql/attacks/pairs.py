"""Two services at one database: what one can do to the other that no grant explains.

The attacker has a session of its own, and so has each victim, at the same time.
"""

from collections.abc import Iterator
from dataclasses import replace

from watertight.attack.arena import Arena
from watertight.attack.probe import Observation, Outcome, Probe, not_run, refused, served
from watertight.servers.postgresql.attacks.attempts import (
    Attempt,
    all_refused,
    each_refused,
    identifier,
    session_of,
)
from watertight.servers.postgresql.attacks.dialect import AS_IT_BEGINS, MAKE
from watertight.servers.postgresql.attacks.privileges import PROBE
from watertight.servers.postgresql.attacks.scope import Scope
from watertight.servers.postgresql.attacks.session import Session
from watertight.servers.postgresql.declaration import DEFAULT_SCHEMA

KEY = 7_761_746
"""Of the locks that are tried: nobody's but ours."""
ADVISORY_LOCKS = tuple(
    f"pg_try_advisory_{scope}lock{mode}" for scope in ("", "xact_") for mode in ("", "_shared")
)
SEARCHED = "SELECT pg_catalog.unnest(pg_catalog.current_schemas(true))"
"""Each name with its schema: what it finds is where somebody may have put another of that name."""
ENDS = ("cancel", "terminate")
WAITING_LOCKS = tuple(name.replace("try_", "") for name in ADVISORY_LOCKS)


def probes(scope: Scope) -> Iterator[Probe]:
    """What one service tries on all others at its database."""
    channel, others = scope.login.channel, len(scope.others)
    if not others:
        return
    whom = f"{others} other{'s' * (others > 1)}"
    for identifier_, what, tried in (
        ("pairs.signal", "their statements and sessions, ended", _signal),
        ("pairs.shadow", "things of its own where their search path looks first", _shadow),
        ("pairs.activity", "what they are running, read", _activity),
    ):
        yield MAKE.attack(identifier_, channel, f"{whom}: {what}", tried, scope)
    if not scope.keys.advisory_locks:
        yield MAKE.attack(
            "pairs.advisory-lock",
            channel,
            f"{whom}: advisory locks, for which they would wait",
            all_refused,
            scope.login,
            [
                Attempt(f"SELECT {name}({keys})")
                for name in (*ADVISORY_LOCKS, *WAITING_LOCKS)
                for keys in (f"{KEY}", f"{KEY}, 1")
            ],
        )


async def _signal(arena: Arena, scope: Scope) -> Observation:
    """Idle sessions of ours, as each of the others: no work of theirs is lost."""
    async with session_of(arena, scope.login) as attacker:
        for other in scope.others:
            async with session_of(arena, replace(scope.login, service=other)) as victim:
                ((pid,),) = (await victim.query("SELECT pg_backend_pid()")).rows
                attempts = [Attempt(f"SELECT pg_{how}_backend({pid})") for how in ENDS]
                seen = await each_refused(attacker, attempts)
            if seen.outcome is not Outcome.REFUSED:
                return replace(seen, detail=f"{other}: {seen.detail}")
    return seen


async def _shadow(arena: Arena, scope: Scope) -> Observation:
    """In each schema where a victim's unqualified names are looked for, and its own of that name.

    What a channel grants (`create` there) is left out: `lint` warns of it.
    """
    tried = 0
    async with session_of(arena, scope.login) as attacker:
        for other in scope.others:
            for schema in await _search_path(arena, scope, other):
                if schema in scope.creates:
                    continue
                seen = await each_refused(attacker, _plants(schema))
                tried += 1
                if seen.outcome is not Outcome.REFUSED:
                    return replace(seen, detail=f"{other}: {seen.detail}")
            own = Attempt(f"CREATE SCHEMA {identifier(other)}", after=frozenset({"42P06"}))
            seen = await each_refused(attacker, [own])
            if seen.outcome is not Outcome.REFUSED:
                return replace(seen, detail=f"{other}: {seen.detail}")
    return refused(f"{tried} schemas, nothing of it: {seen.detail}")


async def _search_path(arena: Arena, scope: Scope, other: str) -> list[str]:
    """Where the other's names are looked for, and everybody's default: it may yet be let in."""
    login = replace(scope.login, service=other)
    async with session_of(arena, login, AS_IT_BEGINS) as victim:
        rows = (await victim.query(SEARCHED)).rows
    return sorted({DEFAULT_SCHEMA, *(str(schema) for (schema,) in rows)})


def _plants(schema: str) -> list[Attempt]:
    """A thing of each kind that a name can stand for."""
    where = f"{identifier(schema)}.{PROBE}"
    return [
        Attempt(f"CREATE TABLE {where} (i int)"),
        Attempt(f"CREATE VIEW {where} AS SELECT 1"),
        Attempt(f"CREATE SEQUENCE {where}"),
        Attempt(f"CREATE DOMAIN {where} AS int"),
        Attempt(f"CREATE TYPE {where} AS (i int)"),
        Attempt(
            f"CREATE OPERATOR {identifier(schema)}.=== "
            "(LEFTARG = int, RIGHTARG = int, FUNCTION = int4eq)"
        ),
        Attempt(f"CREATE AGGREGATE {where} (int) (SFUNC = int4pl, STYPE = int)"),
        Attempt(f'CREATE COLLATION {where} FROM "C"'),
        Attempt(f"CREATE FUNCTION {where}() RETURNS int LANGUAGE sql AS 'SELECT 1'"),
    ]


async def _activity(arena: Arena, scope: Scope) -> Observation:
    """The text of a statement of each of the others, among what everybody may see of sessions."""
    async with session_of(arena, scope.login) as attacker:
        for other in scope.others:
            async with session_of(arena, replace(scope.login, service=other)) as victim:
                ((pid,),) = (await victim.query(f"SELECT pg_backend_pid() AS {PROBE}")).rows
                if (seen := await _read(attacker, str(pid))).outcome is not Outcome.REFUSED:
                    return replace(seen, detail=f"{other}: {seen.detail}")
    return seen


async def _read(attacker: Session, pid: str) -> Observation:
    answer = await attacker.query(
        f"SELECT query, application_name, client_addr FROM pg_stat_activity WHERE pid = {pid}"
    )
    if answer.sqlstate:
        return not_run(str(answer))
    if not answer.rows:
        return not_run("the other's session is not listed at all")
    query, *rest = answer.rows[0]
    if PROBE in str(query) or any(rest):
        return served(f"{query}")
    return refused(f"the server says: {query}")
