"""An act within a session of the right caller, and what came of it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeAlias
from weakref import WeakKeyDictionary

from watertight.attack.arena import Arena
from watertight.attack.login import Dialect, Login, LoginRefused, as_itself, controlled
from watertight.attack.probe import Observation, not_run, refused
from watertight.attack.wire import Closed, Wire

Act: TypeAlias = Callable[[Wire], Awaitable[Observation]]
Tried: TypeAlias = Callable[[Arena, Dialect, Login, Act], Awaitable[Observation]]
AT_ONCE = 4
"""Sessions of one caller: its connections are limited, and its own program needs them."""
_gates: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, asyncio.Semaphore]]
_gates = WeakKeyDictionary()


async def few(arena: Arena, tried: Tried, dialect: Dialect, login: Login, act: Act) -> Observation:
    """``tried``, with no more than :data:`AT_ONCE` sessions of one caller at a time."""
    gates = _gates.setdefault(asyncio.get_running_loop(), {})
    async with gates.setdefault(login.channel, asyncio.Semaphore(AT_ONCE)):
        return await tried(arena, dialect, login, act)


async def attacked(arena: Arena, dialect: Dialect, login: Login, act: Act) -> Observation:
    """An attack by the right caller: where it is not let in itself, nothing was tried."""
    try:
        wire = await as_itself(arena, dialect, login)
    except (Closed, TimeoutError) as end:
        return not_run(f"{login.service} itself is turned away: {end or 'no answer'}")
    return await _acted(arena, dialect, login, act, wire)


async def used(arena: Arena, dialect: Dialect, login: Login, act: Act) -> Observation:
    """A use by the right caller; that it is let in is part of it."""
    try:
        wire = await as_itself(arena, dialect, login)
    except (Closed, TimeoutError) as end:
        return refused(f"{login.service} is turned away: {end or 'no answer'}")
    return await _acted(arena, dialect, login, act, wire)


async def _acted(arena: Arena, dialect: Dialect, login: Login, act: Act, wire: Wire) -> Observation:
    try:
        return await act(wire)
    except LoginRefused as no:
        return refused(str(no))
    except (Closed, TimeoutError) as end:
        return await controlled(arena, dialect, login, str(end) or "no answer")
    finally:
        await wire.close()
