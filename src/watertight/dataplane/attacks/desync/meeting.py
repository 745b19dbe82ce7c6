"""A meeting of two at one app, in which one tries every way there is; and what is said of it."""

import asyncio
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from watertight.attack.arena import Arena
from watertight.attack.places import idle
from watertight.attack.probe import Observation, no_key, not_run, refused, served
from watertight.attack.wire import Closed
from watertight.attack.witness import Witness
from watertight.dataplane.attacks.desync.duel import (
    LATE_SECONDS,
    Broken,
    Disturbed,
    Duel,
    Marks,
    Unseen,
)
from watertight.dataplane.attacks.desync.framed import Framed
from watertight.dataplane.attacks.desync.shapes import Shape
from watertight.dataplane.attacks.desync.sides import NoKey, Outsider, Person
from watertight.dataplane.attacks.replies import AT_THE_EDGE, MALFORMED

FIGHTS = 2
"""A busy machine may make a witness deaf once; twice is a proof that was not made."""


@dataclass(frozen=True, slots=True)
class Meeting:
    """Who attacks, who works meanwhile, and where they meet."""

    attacker: Person
    victim: Person
    app: str
    port: int
    forbidden: bool
    """Whether what the attacker hides is forbidden to it."""

    async def duel(self, arena: Arena, witness: Witness | None) -> Duel:
        """Both sides ready; each time with fresh identities where those can be had."""
        marks = Marks()
        attacker = (await self.attacker.side(arena, marks.attacker)).apart()
        victim = (await self.victim.side(arena, marks.victim)).apart()
        wordless = AT_THE_EDGE if isinstance(self.attacker, Outsider) else MALFORMED
        return Duel(
            attacker,
            victim,
            marks,
            witness,
            wordless,
            self.forbidden,
            streams=_streams_of(arena, self.app),
        )

    @property
    def shapes_a_duel(self) -> int:
        """Outsiders are limited in rate: a subject and an address last for one shape."""
        outside = isinstance(self.attacker, Outsider) or isinstance(self.victim, Outsider)
        return 1 if outside else sys.maxsize


_streams: WeakKeyDictionary[Arena, dict[str, set[tuple[str, str]]]] = WeakKeyDictionary()


def _streams_of(arena: Arena, app: str) -> set[tuple[str, str]]:
    """What was found to stream at an app, by whichever probe: to find out takes seconds."""
    return _streams.setdefault(arena, {}).setdefault(app, set())


async def fight(arena: Arena, meeting: Meeting, shapes: Sequence[Shape | Framed]) -> Observation:
    """Every shape, while the victim works; again, where the witness did not see all of it."""
    unseen = ""
    for _ in range(FIGHTS):
        try:
            return await _fight(arena, meeting, shapes)
        except Unseen as missed:
            unseen = str(missed)
        except NoKey as missing:
            return no_key(str(missing))
        except Closed as end:
            return not_run(f"a connection of the right caller was closed: {end}")
        except Disturbed as found:
            return served(str(found))
    return not_run(unseen)


async def _fight(arena: Arena, meeting: Meeting, shapes: Sequence[Shape | Framed]) -> Observation:
    async with arena.witness(meeting.app, meeting.port) as witness:
        for some in _batches(shapes, meeting.shapes_a_duel):
            duel = await meeting.duel(arena, witness)
            if trouble := await duel.begin():
                return not_run(trouble)
            try:
                await _try_all(duel, some)
            finally:
                await duel.end()
            with idle():
                await asyncio.sleep(LATE_SECONDS)
            duel.overhear()
    if witness is None:
        return refused(f"{len(shapes)} ways, each answer its asker's own; no witness")
    return refused(f"{len(shapes)} ways, and the app got what was judged, byte for byte")


async def _try_all(duel: Duel, shapes: Sequence[Shape | Framed]) -> None:
    """All of them, the victim's work after those that were turned away at the end.

    If it is disturbed then, they are tried again, with work after each, to find which did it.
    """
    owing = duel.witness is not None
    for shape in shapes:
        await _try_one(duel, shape, owing=owing)
    try:
        await duel.catch_up()
    except Disturbed as found:
        for shape in shapes:
            await _try_one(duel, shape, owing=False)
        if not isinstance(found, Broken):
            raise


async def _try_one(duel: Duel, shape: Shape | Framed, *, owing: bool) -> None:
    for last in (False, True):
        try:
            await duel.try_shape(shape, owing=owing)
            break
        except Broken as found:
            if last:
                raise Disturbed(f"{shape.what}: {found}, twice") from None
        except Disturbed as found:
            raise Disturbed(f"{shape.what}: {found}") from None


def _batches(shapes: Sequence[Shape | Framed], size: int) -> Iterator[Sequence[Shape | Framed]]:
    yield from (shapes[at : at + size] for at in range(0, len(shapes), size))
