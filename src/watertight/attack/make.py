"""How probes are made: the fields that are always the same."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Concatenate, ParamSpec, TypeAlias

from watertight.attack.arena import Arena
from watertight.attack.probe import Observation, Outcome, Probe, not_run
from watertight.attack.wire import Absent

P = ParamSpec("P")
Tried: TypeAlias = Callable[Concatenate[Arena, P], Awaitable[Observation]]


@dataclass(frozen=True, slots=True)
class ProbeMaker:
    """Makes the probes of one enforcer."""

    enforcer: str

    def attack(
        self,
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

        return Probe(identifier, self.enforcer, channel, "attack", attempt, Outcome.REFUSED, run)

    def use(
        self,
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

        return Probe(identifier, self.enforcer, channel, "use", attempt, Outcome.SERVED, run)


async def _present(tried: Awaitable[Observation]) -> Observation:
    """Where there is nothing to attack, nothing was refused."""
    try:
        return await tried
    except Absent as gone:
        return not_run(f"nothing there to try it on: {gone}")
