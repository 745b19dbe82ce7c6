"""Generated AMQP: seeded, bounded, judged by the grants alone (``verify --deep``).

One service attacks while another works at the same broker: what is done must be granted, and the
other must not notice.
"""

from collections.abc import Iterator
from dataclasses import replace

from watertight.attack.arena import Arena
from watertight.attack.choices import Choices
from watertight.attack.login import Login
from watertight.attack.probe import Deep, Observation, Probe, not_run, refused, served
from watertight.attack.search import GRACE_SECONDS, search
from watertight.attack.wire import Absent, Closed
from watertight.model.system import System
from watertight.servers.rabbitmq.attacks.deep.grammar import Sequence as Attack
from watertight.servers.rabbitmq.attacks.deep.grammar import generate
from watertight.servers.rabbitmq.attacks.deep.oracle import World
from watertight.servers.rabbitmq.attacks.deep.script import as_command
from watertight.servers.rabbitmq.attacks.deep.session import Attacker, Seen
from watertight.servers.rabbitmq.attacks.deep.work import Colleague
from watertight.servers.rabbitmq.attacks.dialect import MAKE, RabbitMQDialect
from watertight.servers.rabbitmq.attacks.sessions import Caller
from watertight.servers.rabbitmq.declaration import KIND, broker, grants


def probes(system: System, deep: Deep, *, expendable: bool = False) -> Iterator[Probe]:
    """One search for each channel to a broker that we run.

    ``expendable``: nothing at the brokers is anybody's, so that messages may arrive and be read.
    """
    for resource in system.resources.values():
        if resource.kind != KIND or resource.external:
            continue
        dialect = RabbitMQDialect()
        callers = [
            Caller(dialect, Login(system, resource, channel.source), grants(channel))
            for channel in system.incoming(resource.name)
        ]
        for at, caller in enumerate(callers):
            other = callers[(at + 1) % len(callers)]  # so that each has two sessions at most
            who = f"while {other.login.service} works" if other is not caller else "alone"
            made = MAKE.attack(
                "deep.methods",
                caller.login.channel,
                f"AMQP of a grammar by {caller.login.service} {who}, {deep.seconds:g} s, "
                f"seed {deep.seed}",
                _search,
                World(caller, broker(resource), tuple(callers), expendable),
                other,
                deep,
            )
            yield replace(made, deadline_seconds=deep.seconds + GRACE_SECONDS)


async def _search(arena: Arena, world: World, other: Caller, deep: Deep) -> Observation:
    ground = _Ground(arena, world, other)
    try:
        result = await search(deep, world.caller.login.channel, ground.attempt)
    except (Absent, Closed, TimeoutError) as end:
        return ground.turned_away(str(end) or "no answer")
    finally:
        await ground.leave()
    if result.found:
        return served(result.found)
    if ground.denied == 0:
        return not_run(f"{result.tried} sequences, and the broker judged no method of them")
    return refused(
        f"{result.tried} sequences: {ground.done} methods done that may be, {ground.denied} "
        f"denied; {other.login.service} did not notice"
    )


class _Ground:
    """Two sessions, one of which attacks."""

    def __init__(self, arena: Arena, world: World, other: Caller) -> None:
        self._world = world
        self._attacker = Attacker(arena, world.caller)
        self._colleague = Colleague(arena, other)
        self._tried = False
        self.done = self.denied = 0

    async def attempt(self, choices: Choices) -> str | None:
        """Plays one sequence. Raises ``Absent``, ``Closed``, ``TimeoutError`` at a shut door."""
        attack = generate(choices, self._world)
        if not self._tried:
            await self._colleague.begin()
        if told := await self._play(attack):
            return told
        if not await self._colleague.works():
            return None
        # Whatever else may have happened to it: only what happens again is the attack's doing.
        await self._colleague.works_again()
        if told := await self._play(attack):
            return told
        if noticed := await self._colleague.works():
            return f"{self._colleague.name} {noticed}, after {self._told()}"
        return None

    def turned_away(self, why: str) -> Observation:
        """Nobody is let in: nothing was tried, or what was tried last may have ended the broker."""
        name = self._world.caller.login.service
        after = f", after {self._told()}" if self._tried else ""
        return not_run(f"{name} or {self._colleague.name} is turned away: {why}{after}")

    async def leave(self) -> None:
        """Ends both sessions."""
        await self._attacker.leave()
        await self._colleague.leave()

    async def _play(self, attack: Attack) -> str | None:
        told, at = await self._once(attack)
        if told and at:  # what came before it may not matter
            alone, _ = await self._once(replace(attack, steps=(attack.steps[at],)))
            return alone or told
        return told

    async def _once(self, attack: Attack) -> tuple[str, int]:
        """What was let happen without a grant, if anything was, and which step it was."""
        self._tried = True
        for at, (step, seen) in enumerate(await self._attacker.play(attack)):
            self.done += seen.let and step.may
            self.denied += seen.code in step.no
            if seen.let and not step.may and seen.code not in step.no:
                return f"{step.what}: {_said(seen)} without a grant, by {self._told()}", at
        return "", 0

    def _told(self) -> str:
        caller = self._world.caller
        return f"{as_command(caller, self._attacker.sent)} (as {caller.login.service})"


def _said(seen: Seen) -> str:
    return "done" if seen.code is None else f"permitted, but {seen.code} {seen.text}"
