"""A session in which one sequence after another is tried, and what the broker says of each step."""

import asyncio
import time
from collections import deque
from dataclasses import dataclass, replace

from watertight.attack.arena import Arena
from watertight.attack.login import PATIENCE_SECONDS, as_itself
from watertight.attack.wire import Absent, Closed, Wire
from watertight.servers.rabbitmq.attacks import frames
from watertight.servers.rabbitmq.attacks.deep import methods
from watertight.servers.rabbitmq.attacks.deep.grammar import CONFIRMED, TRANSACTION, Sequence, Step
from watertight.servers.rabbitmq.attacks.dialect import (
    NOT_FOUND,
    PRECONDITION_FAILED,
    login_frames,
)
from watertight.servers.rabbitmq.attacks.frames import Frames
from watertight.servers.rabbitmq.attacks.sessions import Caller

RESOURCE_LOCKED = 405
AFTER_PERMISSION = (NOT_FOUND, RESOURCE_LOCKED, PRECONDITION_FAILED)
"""Reply codes of what is looked at once a method is permitted."""
FLOW, FLOW_OK = (20, 20), (20, 21)
ENDS = {frames.CONNECTION_CLOSE: frames.CONNECTION_CLOSE_OK, (10, 60): (10, 61)}
"""How the broker ends a connection, and how that is agreed to: in 0-9-1, and before."""
LOGIN_CHANNEL = 1
"""Of :class:`~dialect.RabbitMQDialect`."""
LINGERING = (None, 501)
LINGERS_SECONDS = 4.0
"""RabbitMQ keeps, and counts, a connection that broke the rules of framing for 3 s."""
MOST_LINGERING = 4
POLL_SECONDS = 0.2


class Ended(Exception):
    """The broker ended the session: the reply code, if it gave one."""

    def __init__(self, code: int | None, text: str) -> None:
        super().__init__(f"{code or ''} {text}".strip())
        self.code = code


@dataclass(frozen=True, slots=True)
class Seen:
    """What came of a step."""

    code: int | None
    """None: it was done."""
    text: str

    @property
    def let(self) -> bool:
        """Whether it was permitted, whatever came of it."""
        return self.code is None or self.code in AFTER_PERMISSION


@dataclass(frozen=True, slots=True)
class Line:
    """A session's wire, and what comes on it."""

    wire: Wire
    incoming: Frames
    header: bytes

    @classmethod
    async def opened(cls, arena: Arena, caller: Caller, header: bytes = frames.HEADER) -> "Line":
        """As the caller itself. Raises ``Absent``, ``Closed`` or ``TimeoutError``."""
        wire = await as_itself(arena, replace(caller.dialect, header=header), caller.login)
        return cls(wire, Frames(wire), header)


class Attacker:
    """One caller's session, begun again when a step has ended it."""

    def __init__(self, arena: Arena, caller: Caller) -> None:
        self._arena = arena
        self._caller = caller
        self._line: Line | None = None
        self._been_in = False
        self._ended: deque[float] = deque(maxlen=MOST_LINGERING)
        self.sent: list[bytes] = []
        """What this sequence has sent from the login on, each piece of which is answered."""
        self._agreed = b""
        """What was sent and is not answered: it goes with the next piece."""

    async def play(self, sequence: Sequence) -> list[tuple[Step, Seen]]:
        """Tries each step. Raises ``Closed``, ``Absent`` or ``TimeoutError`` at a shut door."""
        spoken = replace(self._caller.dialect, header=sequence.header)
        login = [*login_frames(spoken, self._caller.login.resource.name)][:-1]
        self._agreed = b""
        seen: list[tuple[Step, Seen]] = []
        if self._line is not None and self._line.header != sequence.header:
            await self.leave()
        try:
            line = self._line = self._line or await self._entered(sequence.header)
            self.sent = login
            await self._open(line, sequence)
            for step in sequence.steps:
                # Some methods are answered, and some only if they are refused; this always is.
                after = methods.method(sequence.channel, FLOW, b"\x01")
                said = await self._exchange(line, step.data + after, sequence.channel, FLOW_OK)
                seen.append((step, said))
                if said.let and not step.may:
                    break
                if said.code is not None:
                    await self._open(line, sequence)
            else:
                await self._close(line, sequence.channel)
                return seen
            await self.leave()  # what was let happen stands as it was sent
        except Ended as end:
            if len(seen) < len(sequence.steps):
                seen.append((sequence.steps[len(seen)], Seen(end.code or 0, str(end))))
            await self.leave()
            if end.code in LINGERING:
                self._ended.append(time.monotonic())
        return seen

    async def leave(self) -> None:
        """Ends the session."""
        if self._line is not None:
            await self._line.wire.close()
        self._line = None

    async def _entered(self, header: bytes) -> Line:
        """A new session, without a channel. The broker may still count what it has ended itself.

        Raises ``Ended`` if it does not speak so.
        """
        if len(self._ended) == MOST_LINGERING:
            await asyncio.sleep(max(0.0, self._ended[0] + LINGERS_SECONDS - time.monotonic()))
        deadline = time.monotonic() + PATIENCE_SECONDS * self._been_in
        while True:
            try:
                line = await Line.opened(self._arena, self._caller, header)
                break
            except (Absent, Closed, TimeoutError) as end:
                if header != frames.HEADER:
                    raise Ended(None, str(end)) from end
                if time.monotonic() > deadline:
                    raise
            await asyncio.sleep(POLL_SECONDS)
        self._been_in = True
        await self._close(line, LOGIN_CHANNEL)
        return line

    async def _open(self, line: Line, sequence: Sequence) -> None:
        """The channel, fresh, in the sequence's mode."""
        channel = sequence.channel
        await self._ask(line, channel, frames.CHANNEL_OPEN, frames.CHANNEL_OPEN_OK, b"\x00")
        if sequence.mode == TRANSACTION:
            await self._ask(line, channel, (90, 10), (90, 11))
        elif sequence.mode == CONFIRMED:
            await self._ask(line, channel, (85, 10), (85, 11), b"\x00")

    async def _close(self, line: Line, channel: int) -> None:
        """What was not committed is undone, and what was not acknowledged goes back."""
        await self._ask(line, channel, frames.CHANNEL_CLOSE, frames.CHANNEL_CLOSE_OK, bytes(7))

    async def _ask(
        self,
        line: Line,
        channel: int,
        kind: tuple[int, int],
        answer: tuple[int, int],
        arguments: bytes = b"",
    ) -> None:
        said = await self._exchange(line, frames.method(channel, kind, arguments), channel, answer)
        if said.code is not None:
            raise Ended(said.code, said.text)

    async def _exchange(
        self, line: Line, data: bytes, channel: int, answer: tuple[int, int]
    ) -> Seen:
        self.sent.append(self._agreed + data)
        self._agreed = b""
        try:
            await line.wire.send(data)
            while True:
                found = await line.incoming.method()
                if found.kind in ENDS:
                    await line.wire.send(frames.method(0, ENDS[found.kind]))
                    raise Ended(*found.refusal())
                if found.channel == channel and found.kind == answer:
                    return Seen(None, "done")
                if found.kind == frames.CHANNEL_CLOSE:
                    agreed = frames.method(found.channel, frames.CHANNEL_CLOSE_OK)
                    await line.wire.send(agreed)
                    if found.channel == channel:
                        self._agreed = agreed
                        return Seen(*found.refusal())
        except (Closed, TimeoutError) as end:
            raise Ended(None, str(end) or "no answer") from end
