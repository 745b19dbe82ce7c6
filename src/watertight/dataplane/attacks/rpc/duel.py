"""One attacks in HTTP/2, another works: every stream that the app sees must be explained.

The victim has a call open all through each strike, and makes another while the attacker still
holds what it took. Both must be answered as they are undisturbed. Behind the door stands a witness:
what reached the app must say who asks as the proxy says it, must be what was granted and sent, and
what the victim was answered must be what the app said to it, byte for byte.
"""

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from watertight.attack.arena import Arena
from watertight.attack.http import Answer
from watertight.attack.overheard_streams import HeardStream, streams_in
from watertight.attack.probe import Observation, no_key, not_run, refused, served
from watertight.attack.raw_frames import Fields, Frames, data, headers
from watertight.attack.wire import Absent, Closed
from watertight.attack.witness import Witness
from watertight.dataplane.attacks.desync.sides import (
    Caller,
    NoKey,
    Outsider,
    Person,
    Side,
)
from watertight.dataplane.attacks.replies import AT_THE_EDGE, app_is_absent, refusal
from watertight.dataplane.attacks.requests import EMPTY_RPC, TIMEOUT_SECONDS
from watertight.dataplane.attacks.rpc.account import Account, Disturbed, Known
from watertight.dataplane.attacks.rpc.strike import GRPC, Aim, Marks, Strike, call_fields
from watertight.dataplane.attacks.rpc.turns import turn
from watertight.dataplane.attacks.ways import granted
from watertight.model.system import Protocol

AT_ONCE = 8
FIGHTS = 2
"""A busy machine may make a witness deaf once; twice is a proof that was not made."""
BUSY_TRIES = 5
BUSY_SECONDS = 0.3
ANSWER_SECONDS = 2.0
"""A victim that waits longer is starved. Below what other probes at the same app wait."""
LATE_SECONDS = 0.1
"""What the attacker said may still be on its way to the app."""


class Unseen(Exception):
    """Nothing wrong was seen, but not all was seen; the text says what was not."""


class Starved(Disturbed):
    """The victim was answered nothing, or something else: believed if it happens twice."""


@dataclass(frozen=True, slots=True)
class Meeting:
    """Who attacks in turn, who works meanwhile, and where they meet."""

    attackers: tuple[Person, ...]
    victim: Person
    app: str
    port: int
    speaks: Protocol = Protocol.GRPC
    """What the app is asked in; where it is HTTP/1, frames end at the gateway."""

    @property
    def extra(self) -> Fields:
        """Fields of each call."""
        return GRPC if self.speaks is Protocol.GRPC else ()

    @property
    def body(self) -> bytes:
        """Of each call of the victim."""
        return EMPTY_RPC if self.speaks is Protocol.GRPC else b""


@dataclass(frozen=True, slots=True)
class Call:
    """A call of which one half is on the wire."""

    mark: str
    connection: Frames
    stream: int


@dataclass
class Worker:
    """Who calls as it may: with a number each, on one lasting connection."""

    side: Side
    prefix: str
    """Of the marks of its calls."""
    answers: dict[str, Answer | None]
    """By mark, what each was answered."""
    meeting: Meeting
    _connections: list[Frames] = field(default_factory=list)
    _asked: int = 0

    async def begin(self) -> Call:
        """The first half of a call. Raises ``Absent``, ``Closed``."""
        if not self._connections or self._connections[-1].gone or self._connections[-1].leaving:
            self._connections.append(Frames(await self.side.dial_framed()))
            await self._connections[-1].open({}, timeout_seconds=TIMEOUT_SECONDS)
        connection = self._connections[-1]
        self._asked += 1
        call = Call(f"{self.prefix}{self._asked}.", connection, connection.new_stream())
        fields = call_fields(self.side, call.mark, self.meeting.extra)
        await connection.send(headers(call.stream, fields))
        return call

    async def finish(self, call: Call) -> Answer | None:
        """The other half, and the answer, if a whole one comes in time."""
        reply = call.connection.replies[call.stream]
        await call.connection.send(data(call.stream, self.meeting.body))
        await call.connection.listen(ANSWER_SECONDS, lambda: reply.over)
        answer = self.answers[call.mark] = reply.answer()
        return answer

    async def call(self) -> Answer | None:
        """A whole call; None if nothing takes it."""
        try:
            return await self.finish(await self.begin())
        except (Absent, Closed):
            return None

    async def close(self) -> None:
        """Goes."""
        for connection in self._connections:
            await connection.close()


@dataclass
class Duel:
    """An attacker and a victim that are ready, and who looks on."""

    attacker: Side
    worker: Worker
    marks: Marks
    account: Account
    witness: Witness | None
    usual: list[Answer] = field(default_factory=list)
    """What the victim gets undisturbed."""
    _began: int = 0

    async def begin(self) -> str:
        """Looks at both undisturbed. Returns why nothing can be tried, if so."""
        self._began = self.witness.moment() if self.witness is not None else 0
        attacker = Worker(self.attacker, self.marks.attacker, {}, self.worker.meeting)
        try:
            answers = [await self._patiently(attacker)]
        finally:
            await attacker.close()
        answers += [await self._patiently(self.worker) for _ in range(2)]
        for answer, name in zip(answers, ("attacker", "victim", "victim"), strict=True):
            if answer is None or refusal(answer, AT_THE_EDGE) or app_is_absent(answer):
                return f"the {name} itself is answered {describe(answer)}"
        self.usual = [answer for answer in answers[1:] if answer is not None]
        self.worker.answers.clear()
        if self.witness is None:
            return ""
        seen = self._heard()
        for name, mark in (("attacker", self.marks.attacker), ("victim", self.marks.victim)):
            known = [Known.by(h) for h in seen if h.value(mark)]
            if not known:
                return f"the witness did not see the {name}'s granted call reach the app"
            setattr(self.account, name, known[-1])
        return ""

    async def _patiently(self, worker: Worker) -> Answer | None:
        """The app's first own answer; one that is busy with other probes gets some time."""
        answer = await worker.call()
        for _ in range(BUSY_TRIES):
            if answer is not None and not app_is_absent(answer):
                break
            await asyncio.sleep(BUSY_SECONDS)
            answer = await worker.call()
        return answer

    async def suffer(self, strikes: Sequence[Strike]) -> None:
        """Strikes at one time, while the victim works. Raises :class:`Disturbed`."""
        extra = self.worker.meeting.extra
        aims = [Aim(self.attacker, self.marks, extra, self.account.sent) for _ in strikes]
        spanning = await self.worker.begin()
        await self.worker.call()  # once it is answered, what was said before has come as far
        try:
            await asyncio.gather(*map(_play, strikes, aims))
            answers = {"a call that began meanwhile": await self.worker.call()}
            answers["the call that was open"] = await self.worker.finish(spanning)
            for aim in aims:
                self._look_for_theft(aim)
        finally:
            await asyncio.gather(*(aim.close() for aim in aims))
        for what, answer in answers.items():
            await self._compare(answer, what)

    async def _compare(self, answer: Answer | None, what: str) -> None:
        if answer is not None and self._is_usual(answer):
            return
        again = [await self.worker.call() for _ in range(2)]
        same = [a for a in again if a is not None and answer is not None and _same(a, answer)]
        if answer is not None and len(same) == len(again):
            self.usual += same  # the app's own doing: so it answers now
            return
        raise Starved(f"{what} of the victim was answered {describe(answer)}")

    def _is_usual(self, answer: Answer) -> bool:
        if not any(_status(known) == _status(answer) for known in self.usual):
            return False
        bodies = {known.body for known in self.usual}
        return answer.body in bodies or len(bodies) > 1

    def _look_for_theft(self, aim: Aim) -> None:
        mark = self.marks.victim
        for connection in aim.connections:
            for reply in connection.replies.values():
                said = f"{reply.fields}{reply.trailers}{bytes(reply.body).decode('latin-1')}"
                if mark in said:
                    raise Disturbed("the attacker was answered with the victim's call")

    def overhear(self) -> None:
        """What the witness has to say. Raises :class:`Disturbed`, :class:`Unseen`."""
        if self.witness is None:
            return
        heard = self._heard()
        for stream in heard:
            self.account.judge(stream)
        if self.witness.missed_since(self._began):
            raise Unseen("the witness was deaf for a moment: packets were dropped")
        if missing := self.account.unseen():
            raise Unseen(f"nobody saw {missing} of the victim's calls arrive")

    def _heard(self) -> list[HeardStream]:
        if self.witness is None:
            return []
        seen = self.witness.conversations()
        return [stream for talk in seen for stream in streams_in(talk, self.marks.token)]


def _status(answer: Answer) -> tuple[int, str | None]:
    return answer.status, answer.header("grpc-status")


def _same(one: Answer, other: Answer) -> bool:
    return _status(one) == _status(other) and one.body == other.body


def describe(answer: Answer | None) -> str:
    """An answer in a few words, or that there was none."""
    if answer is None:
        return "nothing"
    status = answer.header("grpc-status")
    return f"{answer.status}, grpc-status {status}, {len(answer.body)} bytes"


async def fight(arena: Arena, meeting: Meeting, strikes: Sequence[Strike]) -> Observation:
    """Every strike of each attacker; again, where the witness did not see all of it."""
    unseen = ""
    for _ in range(FIGHTS):
        try:
            return await _fight(arena, meeting, strikes)
        except Unseen as missed:
            unseen = str(missed)
        except NoKey as missing:
            return no_key(str(missing))
        except Closed as end:
            return not_run(f"a connection of the right caller was closed: {end}")
        except Disturbed as found:
            return served(str(found))
    return not_run(unseen)


async def _fight(arena: Arena, meeting: Meeting, strikes: Sequence[Strike]) -> Observation:
    tried = 0
    async with _witness(arena, meeting) as witness:
        for attacker in meeting.attackers:
            mine = [s for s in strikes if not (s.past_proxy and isinstance(attacker, Caller))]
            groups = list(_groups(mine, all_at_once=meeting.speaks is Protocol.HTTP))
            outside = isinstance(attacker, Outsider) or isinstance(meeting.victim, Outsider)
            # Outsiders are limited in rate: a subject and an address last for one group.
            for some in [[group] for group in groups] if outside else [groups] if groups else []:
                starving = any(strike.starves for group in some for strike in group)
                async with turn(arena, meeting.app, alone=starving):
                    trouble = await _strike(arena, meeting, attacker, some, witness)
                if trouble:
                    return not_run(trouble)
            tried += len(mine)
    if witness is None:
        look = "" if meeting.speaks is Protocol.HTTP else "; no witness"
        return refused(f"{tried} strikes, and the other was answered as before{look}")
    return refused(f"{tried} strikes, and the app got what was judged, byte for byte")


def _witness(
    arena: Arena, meeting: Meeting
) -> contextlib.AbstractAsyncContextManager[Witness | None]:
    if meeting.speaks is Protocol.GRPC:
        return arena.witness(meeting.app, meeting.port)
    return contextlib.nullcontext()


async def _strike(
    arena: Arena,
    meeting: Meeting,
    attacker: Person,
    groups: Sequence[Sequence[Strike]],
    witness: Witness | None,
) -> str:
    """Returns why nothing could be tried, if so."""
    marks = Marks()
    sides = [await person.side(arena, marks.token) for person in (attacker, meeting.victim)]
    account = Account(marks, lambda method, path: _granted(attacker, method, path))
    worker = Worker(sides[1], marks.victim, account.victims, meeting)
    duel = Duel(sides[0], worker, marks, account, witness)
    try:
        if trouble := await duel.begin():
            return trouble
        for group in groups:
            await _suffer(duel, group, attacker)
        await asyncio.sleep(LATE_SECONDS)
        duel.overhear()
    finally:
        await worker.close()
    return ""


def _granted(attacker: Person, method: str, path: str) -> bool:
    if isinstance(attacker, Outsider):
        return False  # but for its own call, as it was undisturbed
    return not attacker.way.grants or granted(attacker.way, method, path)


async def _suffer(duel: Duel, group: Sequence[Strike], attacker: Person) -> None:
    """A group; where it does harm, each strike alone, twice."""
    by = f"{group[0].what if len(group) == 1 else f'{len(group)} strikes'}, by {attacker.name}"
    try:
        await duel.suffer(group)
    except Starved as found:
        for strike in group:
            await _twice(duel, strike, attacker, str(found))
    except Disturbed as found:
        raise Disturbed(f"{by}: {found}") from None


async def _twice(duel: Duel, strike: Strike, attacker: Person, found: str) -> None:
    for _ in range(2):
        try:
            await duel.suffer([strike])
        except Disturbed as again:
            found = str(again)
        else:
            return
    why = "; if the app works on few calls at once, let it work on more" if strike.starves else ""
    raise Disturbed(f"{strike.what}, by {attacker.name}: {found}, twice{why}")


async def _play(strike: Strike, aim: Aim) -> None:
    """What it had sent before it was refused may still do harm."""
    with contextlib.suppress(Closed, Absent):
        await strike.play(aim)


def _groups(strikes: Sequence[Strike], *, all_at_once: bool) -> Iterator[Sequence[Strike]]:
    """Those that may be tried at once, so many."""
    together = [strike for strike in strikes if all_at_once or not strike.alone]
    yield from (together[at : at + AT_ONCE] for at in range(0, len(together), AT_ONCE))
    yield from ([strike] for strike in strikes if strike not in together)
