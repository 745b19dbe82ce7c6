"""How much of the server one service can take, and what its own sessions leave behind."""

import asyncio
import time
from collections.abc import Iterator

from watertight.attack.arena import Arena
from watertight.attack.login import (
    PATIENCE_SECONDS,
    POLL_SECONDS,
    TIMEOUT_SECONDS,
    Busy,
    enter_at_once,
    genuine,
)
from watertight.attack.places import idle
from watertight.attack.probe import Observation, Probe, not_run, refused, served
from watertight.attack.tls import Hello, TLSWire
from watertight.attack.wire import Closed, SocketWire, dial_unix
from watertight.servers.postgresql.attacks.attempts import (
    Attempt,
    all_refused,
    identifier,
    session_of,
)
from watertight.servers.postgresql.attacks.dialect import AS_IT_BEGINS, DIALECT, MAKE
from watertight.servers.postgresql.attacks.privileges import may
from watertight.servers.postgresql.attacks.scope import Scope
from watertight.servers.postgresql.attacks.session import SSL_REQUEST

TOO_MANY = "53300"
"""too_many_connections"""
SPARE = 60
"""A server also counts places for its own workers (manual, section 19.3)."""
KEPT = 5
"""Sessions that no service may take from the server's operator."""
NO_MEMORY = "53200"
"""out_of_memory"""
MORE_BYTES, LONGEST_BYTES = 1 << 20, 256 << 20
"""How far past its part it reaches; and the longest value that it asks for, of 1 GB at most."""
SAVEPOINT_BYTES = 10_000
"""What an open savepoint costs its session."""
KEPT_SECONDS = 4
"""How long it keeps it: less than an answer is waited for."""
IN_FORCE = """
SELECT name, setting FROM pg_catalog.pg_settings
WHERE source OPERATOR(pg_catalog.=) ANY (
    '{global,database,user,"database user"}'::pg_catalog.text[])
"""
"""What ``ALTER ROLE … SET`` and ``ALTER DATABASE … SET`` give to a session that begins; with each
name's schema, for one of them is the search path."""


def probes(scope: Scope) -> Iterator[Probe]:
    """For one channel."""
    channel, me = scope.login.channel, identifier(scope.login.service)
    yield MAKE.attack(
        "limits.connections",
        channel,
        "as many sessions as it can get, more than its share",
        _connections,
        scope,
    )
    yield MAKE.attack(
        "limits.silent",
        channel,
        "connections that never log in, more than the server has places for",
        _silent,
        scope,
    )
    yield MAKE.attack(
        "limits.own-limits",
        channel,
        "its own bounds of sessions and of temporary files, lifted",
        all_refused,
        scope.login,
        [
            may("current_setting('temp_file_limit') = '-1'"),
            Attempt("SET temp_file_limit = -1"),
            Attempt(f"ALTER ROLE {me} SET temp_file_limit = -1"),
            Attempt(f"ALTER ROLE {me} CONNECTION LIMIT -1"),
        ],
    )
    if not scope.login.resource.external:  # what bounds a session is how the server is started
        yield MAKE.attack(
            "limits.memory",
            channel,
            "more memory for one session than its part of the server's",
            _memory,
            scope,
        )
        yield MAKE.attack(
            "limits.locks",
            channel,
            "as many locks as its sessions have memory for, so that nobody can log in",
            _locks,
            scope,
        )
    yield MAKE.attack(
        "limits.left-behind",
        channel,
        "settings that an earlier session of its own has left to later ones",
        _left_behind,
        scope,
    )


async def _memory(arena: Arena, scope: Scope) -> Observation:
    """Keeps it, in values of a session's own settings, and waits what comes of it."""
    async with session_of(arena, scope.login) as session:
        try:
            size_bytes, number = scope.memory_bytes + MORE_BYTES, 0
            while size_bytes > 0:
                length, number = min(size_bytes, LONGEST_BYTES), number + 1
                size_bytes -= length
                answer = await session.query(
                    f"SELECT set_config('probe.held{number}', repeat('x', {length}), false) = ''"
                )
                if answer.sqlstate == NO_MEMORY:
                    return refused(str(answer))
                if answer.sqlstate:
                    return not_run(str(answer))
            await session.query(f"SELECT pg_sleep({KEPT_SECONDS})")
        except Closed as end:
            return refused(f"its session was ended: {end}")
    return served(f"{scope.memory_bytes + MORE_BYTES} bytes, for {KEPT_SECONDS} s")


async def _connections(arena: Arena, scope: Scope) -> Observation:
    """Takes sessions until there are no more. Each service does so at the same time.

    Who is turned away for his own number left the others theirs; else nobody has a place any more.
    """
    me, total = scope.login.service, await _places(arena, scope)
    hello, held = await genuine(arena, DIALECT, me), list[TLSWire]()
    bound = scope.keys.connections or total - KEPT
    try:
        while len(held) <= bound:
            held.append(await _one_more(arena, scope, hello))
    except Busy as full:
        said = f"{len(held)} of {total}, then: {full}"
        if TOO_MANY not in str(full):
            return not_run(said)
        return (refused if f'role "{me}"' in str(full) else served)(said)
    except Closed as end:
        return not_run(f"{len(held)} of {total}, then: {end}")  # neither the bound nor its absence
    finally:
        for wire in held:
            await wire.close()
    return served(f"{len(held)} sessions of {total}, and no end")


async def _one_more(arena: Arena, scope: Scope, hello: Hello) -> TLSWire:
    """A session, or the server's own word that there is none: a door may be full just now."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return await enter_at_once(arena, DIALECT, scope.login, hello)
        except Busy as full:
            if TOO_MANY in str(full) or time.monotonic() > deadline:
                raise
        with idle():
            await asyncio.sleep(POLL_SECONDS)


async def _places(arena: Arena, scope: Scope) -> int:
    async with session_of(arena, scope.login) as session:
        ((shown,),) = (await session.query("SHOW max_connections")).rows
    return int(str(shown))


async def _silent(arena: Arena, scope: Scope) -> Observation:
    """A server takes twice its sessions before anybody logs in; then it turns all away."""
    total = await _places(arena, scope)
    most, held = 2 * total + SPARE, list[SocketWire]()
    door = arena.door(scope.login.resource.name, scope.login.service)
    try:
        for _ in range(most):
            held.append(wire := await dial_unix(door))
            await wire.send(SSL_REQUEST)
        left = sum(await asyncio.gather(*(_answered(wire) for wire in held)))
    finally:
        for wire in held:
            await wire.close()
    said = f"{left} of {most} were let through to a server of {total}"
    return (refused if left < 2 * total else served)(said)


async def _answered(wire: SocketWire) -> bool:
    try:
        return await wire.receive(TIMEOUT_SECONDS) == b"S"
    except (Closed, TimeoutError):
        return False


async def _locks(arena: Arena, scope: Scope) -> Observation:
    """Reckoned: to take them is to keep everybody out. Each savepoint that has written holds one.

    A server has places for as many locks as its settings say, times its sessions (manual, section
    20.12), and a tenth more.
    """
    async with session_of(arena, scope.login) as session:
        ((shown,),) = (await session.query("SHOW max_locks_per_transaction")).rows
        ((sessions,),) = (await session.query("SHOW max_connections")).rows
        ((bound,),) = (
            await session.query("SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user")
        ).rows
    places, mine = int(str(shown)) * int(str(sessions)), int(str(bound))
    if mine < 0:
        mine = int(str(sessions)) - KEPT
    takes = mine * (scope.memory_bytes // SAVEPOINT_BYTES)
    said = f"{mine} sessions can hold {takes} locks; there are places for {places}"
    return (refused if takes < places else served)(said)


async def _left_behind(arena: Arena, scope: Scope) -> Observation:
    keys = scope.keys
    right = {
        "statement_timeout": str(round(keys.statement_timeout * 1000)),
        "idle_in_transaction_session_timeout": str(round(keys.idle_in_transaction_timeout * 1000)),
        "temp_file_limit": str(max(1, keys.temporary_file_size // 1024)),
    }
    async with session_of(arena, scope.login, AS_IT_BEGINS) as session:
        found = {str(name): str(value) for name, value in (await session.query(IN_FORCE)).rows}
    odd = sorted(name for name in found.keys() | right if found.get(name) != right.get(name))
    if odd:
        return served(", ".join(f"{name} = {found.get(name, 'the default')}" for name in odd))
    return refused(f"a session begins with {len(right)} settings, as declared")
