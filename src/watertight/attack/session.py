"""An act within a session of the right caller, and what came of it."""

from collections.abc import Awaitable, Callable
from typing import TypeAlias

from watertight.attack.arena import Arena
from watertight.attack.login import Dialect, Login, LoginRefused, as_itself, controlled
from watertight.attack.probe import Observation, not_run, refused
from watertight.attack.wire import Closed, Wire

Act: TypeAlias = Callable[[Wire], Awaitable[Observation]]


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
