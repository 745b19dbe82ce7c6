"""How much of the server one service can take, and what its own sessions leave behind."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace

from watertight.enforcers.attack.login import Busy, as_itself, enter_at_once, genuine
from watertight.enforcers.attack.tls import TLSWire
from watertight.enforcers.attack.wire import Absent, Closed
from watertight.enforcers.contract import Arena, Observation, Probe, refused, served
from watertight.enforcers.postgresql.probes.attempts import (
    Attempt,
    all_refused,
    identifier,
    session_of,
)
from watertight.enforcers.postgresql.probes.dialect import DIALECT, MAKE
from watertight.enforcers.postgresql.probes.privileges import may
from watertight.enforcers.postgresql.probes.scope import Scope

KEPT = 5
"""Sessions that no service may take from the server's operator."""
IN_FORCE = """
SELECT name, setting FROM pg_settings
WHERE source IN ('global', 'database', 'user', 'database user')
"""
"""What ``ALTER ROLE … SET`` and ``ALTER DATABASE … SET`` give to a session that begins."""


def probes(scope: Scope, turn: asyncio.Lock) -> Iterator[Probe]:
    """For one channel. ``turn``: only one service at a time takes all that it can get."""
    channel, me = scope.login.channel, identifier(scope.login.service)
    yield MAKE.attack(
        "limits.connections",
        channel,
        "as many sessions as it can get, while others and the operator come in",
        _connections,
        scope,
        turn,
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
    yield MAKE.attack(
        "limits.left-behind",
        channel,
        "settings that an earlier session of its own has left to later ones",
        _left_behind,
        scope,
    )


async def _connections(arena: Arena, scope: Scope, turn: asyncio.Lock) -> Observation:
    """Takes sessions until there are no more; holds them only while it looks who still comes in."""
    hello = await genuine(arena, DIALECT, scope.login.service)
    async with session_of(arena, scope.login) as session:
        ((shown,),) = (await session.query("SHOW max_connections")).rows
    total, held = int(str(shown)), list[TLSWire]()
    bound = scope.keys.connections or total - KEPT
    async with turn:
        try:
            while len(held) <= bound:
                held.append(await enter_at_once(arena, DIALECT, scope.login, hello))
        except Busy as full:
            return await _others(arena, scope, f"{len(held)} of {total}, then: {full}")
        finally:
            for wire in held:
                await wire.close()
    return served(f"{len(held)} sessions of {total}, and no end")


async def _others(arena: Arena, scope: Scope, said: str) -> Observation:
    for other in scope.others:
        try:
            wire = await as_itself(arena, DIALECT, replace(scope.login, service=other))
        except (Absent, Closed, TimeoutError) as end:
            return served(f"{said}; and now {other} does not come in: {end}")
        await wire.close()
    return refused(said)


async def _left_behind(arena: Arena, scope: Scope) -> Observation:
    keys = scope.keys
    right = {
        "statement_timeout": str(round(keys.statement_timeout * 1000)),
        "idle_in_transaction_session_timeout": str(round(keys.idle_in_transaction_timeout * 1000)),
        "temp_file_limit": str(max(1, keys.temporary_file_size // 1024)),
    }
    async with session_of(arena, scope.login) as session:
        found = {str(name): str(value) for name, value in (await session.query(IN_FORCE)).rows}
    odd = sorted(name for name in found.keys() | right if found.get(name) != right.get(name))
    if odd:
        return served(", ".join(f"{name} = {found.get(name, 'the default')}" for name in odd))
    return refused(f"a session begins with {len(right)} settings, as declared")
