"""What each service may do, and everything near it that it may not.

A message with QoS 2 is judged when it is sent, and delivered when it is released (MQTT 5, section
4.3.3): ours are released once they have expired, so that no program notices.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias
from weakref import WeakKeyDictionary

from watertight.attack.arena import Arena
from watertight.attack.login import Busy, Login, LoginRefused, as_itself, enter, genuine, secured
from watertight.attack.make import ProbeMaker
from watertight.attack.places import idle
from watertight.attack.probe import Gap, Observation, Outcome, Probe, not_run, refused, served
from watertight.attack.session import attacked, used
from watertight.attack.wire import Absent, Closed, Wire
from watertight.model.system import Resource, System
from watertight.servers.mosquitto.attacks import dialect as ask
from watertight.servers.mosquitto.attacks.dialect import OLDER, MosquittoDialect, packets
from watertight.servers.mosquitto.attacks.patterns import covered
from watertight.servers.mosquitto.declaration import (
    KIND,
    OWN,
    BrokerKeys,
    ChannelKeys,
    broker,
    grants,
)

MAKE = ProbeMaker(KIND)
STRANGER = "watertight-probe"
NUMBER = 65_021
"""Of our messages with QoS 2; a client's own count from 1."""
EXPIRED_SECONDS = 2.2
"""A message that may be received for one second is not, after two: the broker counts whole ones."""
TRIES = 8
SUBSCRIPTIONS = (
    "memory by many thousands of deep subscriptions, which Mosquitto does not bound: it ends the "
    "broker, which is started again with what was saved within the last minute"
)
ONE_IDENTITY = (
    "what a service's own program does meanwhile: the broker lets one session of a name in, which "
    "these probes take over for moments; the program connects again, and loses nothing"
)
Act: TypeAlias = Callable[[Wire], Awaitable[Observation]]
Pair: TypeAlias = Callable[[Arena, "Caller", "Caller"], Awaitable[Observation]]
_turns: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()


def _turn() -> asyncio.Lock:
    return _turns.setdefault(asyncio.get_running_loop(), asyncio.Lock())


@dataclass(frozen=True, slots=True)
class Caller:
    """One declared channel, and how to make its probes. One at a time: see ADR 47."""

    dialect: MosquittoDialect
    login: Login
    granted: ChannelKeys

    @property
    def own(self) -> str:
        """The topic that is nobody else's."""
        return OWN + self.login.service

    def attack(self, identifier: str, attempt: str, tried: Act) -> Probe:
        """A probe that must be refused, tried within the caller's own session."""
        return MAKE.attack(
            identifier, self.login.channel, attempt, _alone, self, tried, attack=True
        )

    def use(self, identifier: str, attempt: str, tried: Act) -> Probe:
        """A probe that must be served."""
        return MAKE.use(
            identifier, self.login.channel, attempt, _alone, self, tried, attack=False
        ).waiting()

    def pair(self, identifier: str, attempt: str, other: "Caller", tried: Pair) -> Probe:
        """A probe of two identities at once."""

        async def run(arena: Arena) -> Observation:
            async with _turn():
                return await _tried_again(lambda: tried(arena, self, other))

        return MAKE.attack(identifier, self.login.channel, attempt, run)


async def _alone(arena: Arena, caller: Caller, act: Act, *, attack: bool) -> Observation:
    tried = attacked if attack else used

    async def unbroken(wire: Wire) -> Observation:
        try:
            return await act(wire)
        except Closed as end:  # a refusal has a reason: this is the next session of the name
            raise Busy(str(end)) from end

    async with _turn():
        return await _tried_again(lambda: tried(arena, caller.dialect, caller.login, unbroken))


async def _tried_again(tried: Callable[[], Awaitable[Observation]]) -> Observation:
    """The service's program may take its session back at any time."""
    for _ in range(TRIES - 1):
        try:
            seen = await tried()
        except (Absent, Closed, TimeoutError):
            continue
        if seen.outcome is not Outcome.NOT_RUN:
            return seen
    try:
        return await tried()
    except LoginRefused as no:
        return refused(str(no))
    except (Closed, TimeoutError) as end:
        return not_run(f"the session ended, each of {TRIES} times: {end or 'no answer'}")


# --- one identity --------------------------------------------------------------------------------


def publishes(topic: str) -> Act:
    """Whether it may write there; nobody receives it."""

    async def act(wire: Wire) -> Observation:
        await wire.send(ask.publish(topic, qos=2, number=NUMBER, seconds=1))
        seen = await packets(wire).answer()
        if seen.reason >= ask.REFUSED:
            return refused(f"reason {seen.reason:#x}")
        if seen.kind != ask.PUBREC:
            return not_run(f"answered by {seen.kind}")
        with idle():
            await asyncio.sleep(EXPIRED_SECONDS)  # so that it reaches nobody
        with contextlib.suppress(Closed):  # taken back by the program: our next one releases it
            await wire.send(ask.release(NUMBER))
            await packets(wire).answer()
        return served(f"reason {seen.reason:#x}")

    return act


def subscribes(pattern: str, *, version: int = ask.NEWEST) -> Act:
    """Whether it may read there; what the program has subscribed to, it has again."""

    async def act(wire: Wire) -> Observation:
        if version != ask.NEWEST:
            await wire.send(ask.subscribe(pattern, version=version))
            seen = await packets(wire).answer()
            return refused("0x80") if seen.reason == ask.REFUSED else served(f"{seen.reason:#x}")
        await wire.send(ask.unsubscribe(pattern) + ask.subscribe(pattern, qos=2))
        before, seen = await packets(wire).answer(), await packets(wire).answer()
        if seen.kind != ask.SUBACK:
            return not_run(f"answered by {seen.kind}")
        if seen.reason >= ask.REFUSED:
            return refused(f"reason {seen.reason:#x}")
        if before.reason:
            await wire.send(ask.unsubscribe(pattern))
            await packets(wire).answer()
        return served(f"reason {seen.reason:#x}")

    return act


def ends(message: bytes) -> Act:
    """What no broker goes on with: an end, or a refusal, is what must come."""

    async def act(wire: Wire) -> Observation:
        try:
            await wire.send(message)
            seen = await packets(wire).answer()
        except Closed as end:
            return refused(str(end))
        if seen.reason >= ask.REFUSED:
            return refused(f"reason {seen.reason:#x}")
        return served(f"answered by {seen.kind}")

    return act


def uses(caller: Caller) -> Iterator[Probe]:
    """Every grant."""
    for pattern in caller.granted.write:
        topic = example(pattern)
        what = f"a message to {topic}, which expires before it is released"
        yield caller.use("use.write", what, publishes(topic))
    for pattern in caller.granted.read:
        yield caller.use("use.read", f"a subscription to {pattern}", subscribes(pattern))


def attacks(caller: Caller, declared: BrokerKeys, others: Sequence[Caller]) -> Iterator[Probe]:
    """By complement: every topic of the others, what is near one's own, what is the broker's."""
    name = caller.login.service
    for topic in _foreign(caller.granted.write, others):
        yield caller.attack("grants.write", f"a message to {topic}", publishes(topic))
    for topic in ("$CONTROL/dynamic-security/v1", "$SYS/broker/clients/connected"):
        yield caller.attack("grants.write-to-broker", f"a message to {topic}", publishes(topic))
    for pattern in _foreign(caller.granted.read, others):
        yield caller.attack("grants.read", f"a subscription to {pattern}", subscribes(pattern))
    for pattern in ("#", "+/#", "+", "/#"):
        if not covered(caller.granted.read, pattern):
            what = f"a subscription to {pattern}"
            yield caller.attack("grants.wildcard", what, subscribes(pattern))
    for pattern in ("$SYS/#", "$SYS/broker/log/N", "$CONTROL/#", f"{OWN}#", f"{OWN}+"):
        yield caller.attack(
            "grants.read-from-broker", f"a subscription to {pattern}", subscribes(pattern)
        )
    for pattern in ("#", *caller.granted.read[:1]):
        shared = f"$share/{STRANGER}/{pattern}"
        yield caller.attack("grants.shared", f"a subscription to {shared}", subscribes(shared))
    older = replace(caller, dialect=replace(caller.dialect, version=OLDER))
    yield older.attack(
        "grants.older-protocol",
        f"a subscription to {OWN}# in MQTT 3.1.1",
        subscribes(f"{OWN}#", version=OLDER),
    )
    if not declared.retained:
        what = f"a message to {caller.own} that the broker is to keep"
        kept = ask.publish(caller.own, qos=1, retain=True)
        yield caller.attack("limits.retained", what, ends(kept))
    size = declared.max_message_size
    what = f"a message of {size} bytes, with its topic more than the broker takes"
    yield caller.attack("limits.message", what, ends(ask.publish(caller.own, qos=1, size=size)))
    for other in others:
        theirs = other.login.service
        spoken = replace(caller.dialect, user=theirs, client_id=theirs)
        claimed = replace(caller.login, service=theirs)
        attempt = f"{name}'s SVID, with {theirs} as user name and client id"
        yield MAKE.attack(
            "login.user-name", caller.login.channel, attempt, _claims, spoken, caller, claimed
        )


async def _claims(
    arena: Arena, spoken: MosquittoDialect, caller: Caller, claimed: Login
) -> Observation:
    async def tried() -> Observation:
        hello = await genuine(arena, spoken, caller.login.service)
        door = caller.login.service
        await (await enter(arena, spoken, claimed, hello, door=door)).close()
        return served(f"logged in as {claimed.service}")

    async with _turn():
        return await _tried_again(tried)


def _foreign(mine: Sequence[str], others: Sequence[Caller]) -> Iterator[str]:
    """Topics of others, and near one's own, that no grant covers."""
    tried = [STRANGER, *(other.own for other in others)]
    tried += [topic for other in others for topic in (*other.granted.write, *other.granted.read)]
    for pattern in mine:
        topic = example(pattern)
        tried += [f"{topic}/{STRANGER}", f"{topic}x", f"x{topic}", f"/{topic}", topic.upper()]
    for topic in dict.fromkeys(map(example, tried)):
        if not covered(mine, topic):
            yield topic


def example(pattern: str) -> str:
    """A topic that a pattern covers."""
    return "/".join(STRANGER if level in ("+", "#") else level for level in pattern.split("/"))


# --- two identities at once ----------------------------------------------------------------------


def pairs(callers: Sequence[Caller]) -> Iterator[Probe]:
    """One service makes another receive what no grant explains, or ends its session."""
    for one in callers:
        for other in callers:
            if one is other:
                continue
            name = other.login.service
            yield one.pair("pairs.will", f"a will for {other.own}, as the last word", other, _will)
            yield one.pair(
                "pairs.client-id", f"the session of {name}, by its client id", other, _takes_over
            )
            yield one.pair(
                "pairs.qos-2", f"a refused message to {other.own}, released", other, _released
            )
            yield one.pair(
                "pairs.older-protocol",
                f"a message to {other.own} in MQTT 3.1.1, which hears of no refusal",
                other,
                _silent,
            )


async def _hears(arena: Arena, other: Caller, act: Callable[[], Awaitable[None]]) -> Observation:
    """Whether the other hears anything on its own topic but what it says itself."""
    wire = await as_itself(arena, other.dialect, other.login)
    try:
        await wire.send(ask.subscribe(other.own))
        if (await packets(wire).answer()).reason >= ask.REFUSED:
            return not_run(f"{other.login.service} may not read {other.own}")
        await act()
        await wire.send(ask.publish(other.own))  # after all that was said before
        heard = 0
        while (seen := await packets(wire).next()).body.rpartition(b"probe")[1] == b"":
            heard += seen.kind == ask.PUBLISH
        await wire.send(ask.unsubscribe(other.own))
        await packets(wire).answer()
        return served(f"{heard} messages") if heard else refused("it hears only itself")
    finally:
        await wire.close()


async def _will(arena: Arena, one: Caller, other: Caller) -> Observation:
    dying = replace(one.dialect, will=other.own)

    async def die() -> None:
        wire = await as_itself(arena, dying, one.login)
        await wire.close()
        # Once the next of its name is in, the broker has sent what the last one left.
        await (await as_itself(arena, one.dialect, one.login)).close()

    return await _hears(arena, other, die)


async def _takes_over(arena: Arena, one: Caller, other: Caller) -> Observation:
    wire = await as_itself(arena, other.dialect, other.login)
    try:
        spoken = replace(one.dialect, client_id=other.login.service)
        hello = await genuine(arena, spoken, one.login.service)
        theirs = await secured(
            arena.door(one.login.resource.name, one.login.service), spoken, hello
        )
        try:
            await spoken.connect(theirs, one.login)
            try:
                await wire.send(ask.PING)
                await packets(wire).answer()
            except Closed as end:
                return served(f"the session of {other.login.service} ended: {end}")
        finally:
            await theirs.close()
    finally:
        await wire.close()
    return refused(f"the session of {other.login.service} goes on")


async def _released(arena: Arena, one: Caller, other: Caller) -> Observation:
    async def release() -> None:
        wire = await as_itself(arena, one.dialect, one.login)
        for again in (False, True):
            sent = ask.publish(other.own, qos=2, number=NUMBER, again=again, size=1)
            await wire.send(sent)
            await packets(wire).answer()
            await wire.send(ask.release(NUMBER))
            await packets(wire).answer()
        await wire.close()

    return await _hears(arena, other, release)


async def _silent(arena: Arena, one: Caller, other: Caller) -> Observation:
    older = replace(one.dialect, version=OLDER)

    async def say() -> None:
        wire = await as_itself(arena, older, one.login)
        await wire.send(ask.publish(other.own, qos=1, size=1, version=OLDER))
        await packets(wire).answer()
        await wire.close()

    return await _hears(arena, other, say)


def of(system: System, resource: Resource) -> Iterator[Probe]:
    """Every attack on one broker's grants, and every use."""
    callers = [
        Caller(MosquittoDialect(), Login(system, resource, c.source), grants(c))
        for c in system.incoming(resource.name)
    ]
    for caller in callers:
        others = [other for other in callers if other is not caller]
        yield from uses(caller)
        yield from attacks(caller, broker(resource), others)
    yield from pairs(callers)


def gaps(system: System) -> Iterator[Gap]:
    """For each broker that we run."""
    for resource in system.resources.values():
        if resource.kind == KIND and not resource.external:
            yield Gap(KIND, f"anyone -> {resource.name}", ONE_IDENTITY)
            yield Gap(KIND, f"anyone -> {resource.name}", SUBSCRIPTIONS)
