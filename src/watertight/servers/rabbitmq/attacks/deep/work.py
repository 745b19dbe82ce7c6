"""Another service, at work at the same broker while it is attacked.

Its work is what it is granted, so that no application notices: messages that are taken back, and
asking how full its queues are. And it listens where nobody may send it anything.
"""

import asyncio
import time

from watertight.attack.arena import Arena
from watertight.attack.login import PATIENCE_SECONDS
from watertight.attack.wire import Absent, Closed
from watertight.servers.rabbitmq.attacks import dialect as ask
from watertight.servers.rabbitmq.attacks import frames
from watertight.servers.rabbitmq.attacks.deep import methods
from watertight.servers.rabbitmq.attacks.deep.oracle import REPLIES
from watertight.servers.rabbitmq.attacks.deep.session import POLL_SECONDS, Line
from watertight.servers.rabbitmq.attacks.examples import STRANGER, example
from watertight.servers.rabbitmq.attacks.sessions import Caller
from watertight.servers.rabbitmq.declaration import SEND

WORKS, LISTENS = 1, 2
"""Channels."""
CUT_OFF = "is cut off"
DELIVER, ROLLED_BACK, DECLARED = (60, 60), (90, 31), (50, 11)


class Colleague:
    """A session of another service's."""

    def __init__(self, arena: Arena, caller: Caller) -> None:
        self._arena = arena
        self._caller = caller
        self.line: Line | None = None
        self._work = _work(caller)
        self.name = caller.login.service

    async def begin(self) -> None:
        """Logs in. Raises ``Absent``, ``Closed`` or ``TimeoutError``."""
        line = self.line = await Line.opened(self._arena, self._caller)
        said = (methods.RESERVED, REPLIES, STRANGER, b"\x02", methods.table({}))
        prepared = [
            (ask.SELECT, (90, 11)),
            (frames.method(LISTENS, frames.CHANNEL_OPEN, b"\x00"), frames.CHANNEL_OPEN_OK),
            (methods.method(LISTENS, methods.CONSUME, *said), (60, 21)),
        ]
        for each in prepared:  # one after another: each channel answers when it likes
            if told := await self._does(line, [each]):
                raise Closed(told)

    async def works(self) -> str:
        """Does all of it once; what is wrong with what came of it, or nothing."""
        try:
            if self.line is None:
                await self.begin()
            told = await self._does(self.line, self._work) if self.line else ""
        except (Absent, Closed, TimeoutError) as end:
            told = f"{CUT_OFF}: {end or 'no answer'}"
        if told:
            await self.leave()
        return told

    async def works_again(self) -> None:
        """Until it is let in and answered once more. Raises ``Closed`` if it is not, for long."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (told := await self.works()).startswith(CUT_OFF):
            if time.monotonic() > deadline:
                raise Closed(f"{self.name} {told}")
            await asyncio.sleep(POLL_SECONDS)

    async def leave(self) -> None:
        """Ends the session."""
        if self.line is not None:
            await self.line.wire.close()
        self.line = None

    async def _does(self, line: Line, work: list[tuple[bytes, tuple[int, int]]]) -> str:
        await line.wire.send(b"".join(request for request, _ in work))
        for _, answer in work:
            found = await line.incoming.method()
            if found.kind in (frames.CHANNEL_CLOSE, frames.CONNECTION_CLOSE):
                code, text = found.refusal()
                return f"is told {code} {text}"
            if found.kind == DELIVER:
                return "is sent a message that nobody may send it"
            if found.kind != answer:
                return f"is answered {found.kind} for {answer}"
        return ""


def _work(caller: Caller) -> list[tuple[bytes, tuple[int, int]]]:
    granted = caller.granted
    sent = [
        (exchange, key)
        for exchange, patterns in granted.publish.items()
        for key in [example(pattern) for pattern in patterns] or [STRANGER]
    ]
    sent += [(f"{SEND}{queue}", queue) for queue in granted.send]
    work = [(ask.publish(exchange, key), ROLLED_BACK) for exchange, key in sent]
    work += [(ask.declare_queue(q, passive=True), DECLARED) for q in granted.consume]
    return work or [(frames.method(WORKS, (90, 30)), ROLLED_BACK)]
