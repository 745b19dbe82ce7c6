"""A conversation in HTTP/1.1 over one wire: bytes out as they are, answers in one by one."""

from collections.abc import Awaitable, Sequence

from watertight.attack.http import MAX_ANSWER_BYTES, Answer, parse_answers
from watertight.attack.inside import InsideWire
from watertight.attack.overheard import answers_in
from watertight.attack.patience import patiently
from watertight.attack.places import idle
from watertight.attack.wire import Closed, Wire


class Talk:
    """What is said on one connection; answers are read in the order in which they come."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._received = b""
        self.ended = ""
        """How the other side ended the connection; empty while it has not."""

    async def say(self, data: bytes) -> None:
        """Sends bytes; a peer that has closed may still have answered."""
        try:
            await self._wire.send(data)
        except Closed as end:
            self.ended = self.ended or str(end)

    async def ask(self, data: bytes, method: str, timeout_seconds: float) -> Answer | None:
        """Says it, and returns the next final answer; None if none comes in time.

        From inside a sandbox that is one request to the agent there, and not three.
        """
        if not isinstance(self._wire, InsideWire):
            await self.say(data)
        elif not await self._take(self._wire.ask(data, timeout_seconds)):
            return None
        return await self.answer(method, timeout_seconds)

    async def ask_for_head(self, data: bytes, method: str, timeout_seconds: float) -> Answer | None:
        """Says it, and returns the next answer once its head is there; None if none comes in time.

        What follows must be read by nobody: the connection is of no use any more.
        """
        await self.say(data)
        try:
            async with patiently(timeout_seconds):
                while not self.ended:
                    if begun := parse_answers(
                        self._received, [method], ended=False, unfinished=True
                    ):
                        return begun[0]
                    if not await self._take(self._wire.receive(timeout_seconds)):
                        return None
        except TimeoutError:
            return None
        return await self.answer(method, 0.0)

    def begun(self, method: str) -> Answer | None:
        """The answer that has begun, and has not ended: a stream of events, or a slow one."""
        begun = parse_answers(self._received, [method], ended=False, unfinished=True)
        return begun[0] if begun and not begun[0].whole else None

    async def answer(self, method: str, timeout_seconds: float) -> Answer | None:
        """The next final answer, to a request of that method; None if none comes in time."""
        try:
            async with patiently(timeout_seconds):
                while True:
                    answers, rest = answers_in(self._received, [method], ended=bool(self.ended))
                    if answers:
                        self._received = rest
                        return answers[0]
                    if self.ended or len(self._received) > MAX_ANSWER_BYTES:
                        return None
                    if not await self._take(self._wire.receive(timeout_seconds)):
                        return None
        except TimeoutError:
            return None

    async def close(self) -> None:
        """Ends the connection; never raises."""
        await self._wire.close()

    async def _take(self, receiving: Awaitable[bytes]) -> bool:
        """Whether anything came in time, or the end did."""
        try:
            data = await receiving
        except Closed as end:
            self.ended = str(end) or "closed"
            return True
        except TimeoutError:
            return False
        self._received += data
        if not data:
            self.ended = "closed"
        return True


async def play(talk: Talk, pieces: Sequence[bytes | float], method: str) -> Answer | None:
    """Sends pieces; a number is a pause of at most so many seconds, cut short by an answer."""
    answered: Answer | None = None
    for piece in pieces:
        if isinstance(piece, bytes):
            await talk.say(piece)
        elif answered is None:
            with idle():
                answered = await talk.answer(method, piece)
    return answered
