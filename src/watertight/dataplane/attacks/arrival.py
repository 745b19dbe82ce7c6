"""Whether a request that nobody answers reached the app: when it answers is the app's own affair.

A method may sleep for an hour, and a route may end before its app answers. What was declared works
all the same, if the app has the request; a witness can tell.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from watertight.attack.arena import Arena
from watertight.attack.http import Answer
from watertight.attack.overheard_streams import streams_in
from watertight.attack.witness import Witness
from watertight.dataplane.attacks.replies import Nothing, Seen, is_late
from watertight.dataplane.attacks.requests import AGENT, Request, at_door, from_inside, genuine
from watertight.dataplane.attacks.ways import Way

MARK = "watertight-probe"
POLL_SECONDS = 0.05

Field = tuple[str, str]
Ask = Callable[[Sequence[Field]], Awaitable[Seen]]
"""Asks, with these headers more."""


async def permitted_inside(arena: Arena, way: Way, request: Request) -> Seen:
    """``from_inside``, of a request that the way grants."""

    async def ask(more: Sequence[Field]) -> Seen:
        return await from_inside(arena, way, replace(request, headers=(*request.headers, *more)))

    return await seen_to_arrive(arena, way.callee, way.listens.port, ask)


async def permitted_at_door(arena: Arena, way: Way, request: Request) -> Seen:
    """``at_door`` by the right caller, of a request that the way grants."""

    async def ask(more: Sequence[Field]) -> Seen:
        marked = replace(request, headers=(*request.headers, *more))
        return await at_door(arena, way, marked, await genuine(arena, way))

    if not way.speaks_http:
        return await ask(())
    return await seen_to_arrive(arena, way.callee, way.listens.port, ask)


async def seen_to_arrive(arena: Arena, service: str, port: int, ask: Ask) -> Seen:
    """What came of it. Where no answer came in time, it is asked again before a witness."""
    seen = await ask(())
    if not is_late(seen):
        return seen
    async with arena.witness(service, port) as witness:
        if witness is None:
            return _unseen(seen, "nobody may look whether the app has it")
        began = witness.moment()
        mark = f"{AGENT}-{secrets.token_hex(8)}"
        asking = asyncio.ensure_future(ask(((MARK, mark),)))
        try:
            while not _arrived(witness, mark):
                if asking.done():
                    return _not_arrived(asking.result(), missed=witness.missed_since(began))
                await asyncio.wait({asking}, timeout=POLL_SECONDS)
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
    return Nothing("the app has the request, and takes its time", closed=False, arrived=True)


def _not_arrived(seen: Seen, *, missed: bool) -> Seen:
    if missed and is_late(seen):
        return _unseen(seen, "the witness was deaf for a moment")
    return seen


def _unseen(seen: Seen, why: str) -> Nothing:
    said = f"answered {seen.status}" if isinstance(seen, Answer) else seen.detail
    return Nothing(f"{said}, and {why}", closed=False, arrived=None)


def _arrived(witness: Witness, mark: str) -> bool:
    return bool(witness.conversations(mark.encode())) or any(
        streams_in(talk, mark) for talk in witness.conversations()
    )
