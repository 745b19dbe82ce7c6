"""Generated statements: seeded, bounded, judged by the grants alone (``verify --deep``)."""

import shlex
from collections.abc import Iterator
from dataclasses import dataclass, replace

from watertight.attack.arena import Arena
from watertight.attack.choices import Choices
from watertight.attack.probe import Deep, Observation, Probe, not_run, refused, served
from watertight.attack.search import GRACE_SECONDS, search
from watertight.attack.wire import Absent, Closed
from watertight.model.system import System
from watertight.servers.postgresql.attacks.attempts import DENIED, session_of
from watertight.servers.postgresql.attacks.deep.grammar import Statement, World, generate
from watertight.servers.postgresql.attacks.deep.oracle import missing
from watertight.servers.postgresql.attacks.dialect import MAKE
from watertight.servers.postgresql.attacks.privileges import calls, columns, of_another
from watertight.servers.postgresql.attacks.scope import Scope, scopes
from watertight.servers.postgresql.attacks.session import Answer, Session
from watertight.servers.postgresql.declaration import KIND, Kind, declared

AFTER_PERMISSION = ("23", "25006")
"""Integrity constraints, and writing in a transaction that only reads (of sequences)."""
RECONNECTS = 20
"""An attack may end its own session, but a search that does little else is none."""


def probes(system: System, deep: Deep) -> Iterator[Probe]:
    """One search for each channel to a database that we run."""
    for resource in system.resources.values():
        if resource.kind != KIND or resource.external:
            continue
        for scope in scopes(system, resource):
            made = MAKE.attack(
                "deep.statements",
                scope.login.channel,
                f"SQL of a grammar by {scope.login.service}, {deep.seconds:g} s, seed {deep.seed}",
                _search,
                scope,
                deep,
            )
            yield replace(made, deadline_seconds=deep.seconds + GRACE_SECONDS)


@dataclass
class _Counted:
    """What the server said."""

    done: int = 0
    denied: int = 0

    def count(self, answer: Answer) -> None:
        self.done += not answer.sqlstate
        self.denied += answer.sqlstate == DENIED


async def _search(arena: Arena, scope: Scope, deep: Deep) -> Observation:
    world: World | None = None
    counted = _Counted()
    left = deep
    ends = 0
    while True:
        try:
            async with session_of(arena, scope.login) as session:
                world = world or await _world(session, scope)
                ground = _Ground(session, scope, world, counted)
                result = await search(left, scope.login.channel, ground.attempt)
                break
        except (Closed, TimeoutError) as end:
            ends += 1
            if ends > RECONNECTS:
                return not_run(f"the session ended again and again: {end}")
            left = replace(left, seed=left.seed + 1)  # not the same end again
    if result.found:
        return served(result.found)
    if counted.denied == 0:  # only an owner may all, and nobody owns
        return not_run(f"{result.tried} statements, and the server judged none of them")
    return refused(
        f"{result.tried} statements: {counted.done} done that may be, {counted.denied} denied"
    )


async def _world(session: Session, scope: Scope) -> World:
    """What there is to name, read from the catalogs, as an attacker would."""
    tables, functions = {}, {}
    for target in scope.attacked(Kind.TABLE):
        if await of_another(session, scope, target):
            continue  # whoever uses it runs its owner's code; `grants.*` asks the server
        try:
            tables[target] = tuple(await columns(session, target, writable=True))
        except Absent:
            continue  # not made yet
    for target in scope.attacked(Kind.FUNCTION):
        if await of_another(session, scope, target):
            continue
        try:
            functions[target] = tuple(a.sql for a in await calls(session, target) if not a.no)
        except Absent:
            continue
    return World(
        tables={target: names for target, names in tables.items() if names},
        functions={target: asked for target, asked in functions.items() if asked},
        sequences=tuple(
            t for t in scope.attacked(Kind.SEQUENCE) if t.schema not in scope.others_create
        ),
        others=scope.others,
        temporary=scope.keys.temporary,
    )


@dataclass
class _Ground:
    session: Session
    scope: Scope
    world: World
    counted: _Counted

    async def attempt(self, choices: Choices) -> str | None:
        """Runs one statement in a transaction that is undone."""
        statement = generate(choices, self.world)
        begin = "BEGIN READ ONLY" if statement.reads_only else "BEGIN"
        await self.session.query(begin)
        answer = await self.session.query(statement.sql)
        await self.session.query("ROLLBACK")
        self.counted.count(answer)
        lacks = missing(self.scope.grants, statement.needs)
        if not lacks or not _passed(answer):
            return None
        return f"{answer} without {lacks}: {self._command(begin, statement)}"

    def _command(self, begin: str, statement: Statement) -> str:
        login = self.scope.login
        where = f"host={login.resource.name} user={login.service}"
        database = declared(login.resource).database
        script = f"{begin}; {statement.sql}; ROLLBACK"
        return f"psql {shlex.quote(f'{where} dbname={database}')} -c {shlex.quote(script)}"


def _passed(answer: Answer) -> bool:
    """Whether every permission was there, whatever came of it."""
    return not answer.sqlstate or answer.sqlstate.startswith(AFTER_PERMISSION)
