"""How the probes of this enforcer are made: the fields that are always the same."""

from collections.abc import Awaitable, Callable
from typing import Concatenate, ParamSpec, TypeAlias

from watertight.enforcers.attack.wire import Absent
from watertight.enforcers.contract import Arena, Observation, Outcome, Probe, not_run

ENFORCER = "envoy"

P = ParamSpec("P")
Tried: TypeAlias = Callable[Concatenate[Arena, P], Awaitable[Observation]]


def attack(
    identifier: str,
    channel: str,
    attempt: str,
    tried: Tried[P],
    *arguments: P.args,
    **keywords: P.kwargs,
) -> Probe:
    """A probe that must be refused; it runs ``tried(arena, *arguments)``."""

    async def run(arena: Arena) -> Observation:
        return await _present(tried(arena, *arguments, **keywords))

    return Probe(identifier, ENFORCER, channel, "attack", attempt, Outcome.REFUSED, run)


def use(
    identifier: str,
    channel: str,
    attempt: str,
    tried: Tried[P],
    *arguments: P.args,
    **keywords: P.kwargs,
) -> Probe:
    """A probe that must be served; it runs ``tried(arena, *arguments)``."""

    async def run(arena: Arena) -> Observation:
        return await _present(tried(arena, *arguments, **keywords))

    return Probe(identifier, ENFORCER, channel, "use", attempt, Outcome.SERVED, run)


async def _present(tried: Awaitable[Observation]) -> Observation:
    """Where there is nothing to attack, nothing was refused."""
    try:
        return await tried
    except Absent as gone:
        return not_run(f"nothing there to try it on: {gone}")
