"""One attacks, another works, both at the same app: does either get what is the other's?

Two things are looked at. The answers: the victim's must be those that it gets undisturbed. And,
where a witness can stand behind the door, the bytes themselves: whatever reached the app must be a
request that was judged, and the app must have answered no more often than it was asked.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from watertight.attack.http import Answer
from watertight.attack.http2 import connect
from watertight.attack.overheard import Heard, beyond, requests_in
from watertight.attack.places import idle
from watertight.attack.talk import Talk, play
from watertight.attack.wire import Closed
from watertight.attack.witness import Witness
from watertight.dataplane.attacks.desync.framed import Framed
from watertight.dataplane.attacks.desync.shapes import FORGED, IDENTITY, TOLD, Shape
from watertight.dataplane.attacks.desync.sides import Side
from watertight.dataplane.attacks.replies import (
    app_is_absent,
    refusal,
)
from watertight.dataplane.attacks.requests import TIMEOUT_SECONDS
from watertight.dataplane.attacks.ways import FORBIDDEN

SILENCE_SECONDS = 0.4
"""How long an attack is waited for that may never be answered: it asked for too little."""
FRAMED_SECONDS = 1.0
LATE_SECONDS = 0.1
"""An answer too many may come after the one that was due."""
ASKED_AFTER = 2
BUSY_TRIES = 5
BUSY_SECONDS = 0.3
ASKED_AGAIN = 3
APP_FAILED = frozenset({500, 503})
"""What an app says of trouble of its own. It takes the half of a request for a 400 or a 501."""
GATEWAY_TIMEOUT = 504
IDLE_TIMEOUT = b"HTTP/1.1 408"
"""Some servers say so of their own accord before they close an idle connection."""


class Disturbed(Exception):
    """A victim did not get what is its own; the text says what it got."""


class Unseen(Exception):
    """Nothing wrong was seen, but not all was seen; the text says what was not."""


@dataclass(frozen=True, slots=True)
class Marks:
    """What tells whose bytes are whose. One token in all of them."""

    token: str = field(default_factory=lambda: f"wt{secrets.token_hex(6)}")

    @property
    def attacker(self) -> str:
        """In the head of the attacker's granted requests."""
        return f"{self.token}a"

    @property
    def victim(self) -> str:
        """In the head of the victim's."""
        return f"{self.token}v"

    @property
    def hidden(self) -> str:
        """In requests that nobody may ask: wherever it is a request, nobody judged it."""
        return f"{self.token}h"

    def whole(self, host: str) -> bytes:
        """A hidden request that ends."""
        return (
            f"GET /{FORBIDDEN}/{self.hidden} HTTP/1.1\r\nhost: {host}\r\n"
            f"x-forwarded-client-cert: URI={FORGED}{self.attacker}\r\n\r\n"
        ).encode()

    def open(self, host: str) -> bytes:
        """A hidden request that swallows the next one's first line; with a method of its own."""
        return (
            f"WATERTIGHT /{FORBIDDEN}/{self.hidden} HTTP/1.1\r\nhost: {host}\r\n{self.hidden}: "
        ).encode()


@dataclass
class Duel:
    """Two sides that are ready, what each gets undisturbed, and who looks on."""

    attacker: Side
    victim: Side
    marks: Marks
    witness: Witness | None
    wordless: frozenset[int]
    forbidden: bool
    """Whether the hidden requests are forbidden to the attacker (else they may pass as its own)."""
    usual: list[Answer] = field(default_factory=list)
    """What the victim gets undisturbed."""
    _working: Talk | None = None
    _no_http2: bool = False
    identity: frozenset[str] = frozenset()
    """The headers in which the app is told who calls, as an undisturbed request had them."""
    _began: int = 0
    """The witness's moment from which it must have seen all."""
    _asked: int = 0
    """How many requests the victim has made; each has a number in its mark."""
    _silent: list[str] = field(default_factory=list)
    """The marks of those that were answered nothing."""
    _owes: bool = False
    _failed: list[str] = field(default_factory=list)
    """What the app answered the victim when it failed, as apps do."""
    streams: set[tuple[str, str]] = field(default_factory=set)
    """Methods and paths whose answers go on and on: of these, the head is waited for."""
    _passes_on: bool | None = None
    """Whether the app gives callers what others sent it; None: nobody has looked."""

    async def begin(self) -> str:
        """Looks at both sides undisturbed. Returns why nothing can be tried, if so."""
        self._began = self.witness.moment() if self.witness is not None else 0
        first = await self._patiently(lambda: self._ask(self.attacker))
        usual = [await self._patiently(self._ask_on) for _ in range(2)]
        for answer, name in ((first, "attacker"), *((a, "victim") for a in usual)):
            if answer is None or refusal(answer, self.wordless) or app_is_absent(answer):
                return f"the {name} itself is answered {answer.status if answer else 'nothing'}"
        self.usual = [answer for answer in usual if answer is not None]
        mine = [heard for heard in self._heard() if self._is_by(heard, self.marks.attacker)]
        if self.witness is not None and not mine:
            return "the witness did not see the attacker's granted request reach the app"
        self.identity = frozenset(
            name for heard in mine for name, _ in heard.headers if name in IDENTITY
        )
        self._silent.clear()  # nobody had attacked yet
        return ""

    async def _patiently(self, ask: Callable[[], Awaitable[Answer | None]]) -> Answer | None:
        """The first answer of the app itself; one that is busy with other probes gets some time."""
        answer = await ask()
        for _ in range(BUSY_TRIES):
            if answer is not None and not app_is_absent(answer):
                break
            with idle():
                await asyncio.sleep(BUSY_SECONDS)
            answer = await ask()
        return answer

    async def try_shape(self, shape: Shape | Framed, *, owing: bool = False) -> None:
        """One way, hiding a whole request and one without an end. Raises :class:`Disturbed`.

        The victim works after each. ``owing``: if the enforcer turned the message away, it works
        later (:meth:`catch_up`), for most ways end so, and the witness sees what passes in truth.
        """
        host = dict(self.attacker.base.lines)["host"]
        for hidden in (self.marks.whole(host), self.marks.open(host)):
            if isinstance(shape, Framed):
                turned_away = await self._attack_framed(shape, hidden)
                await self._work_after(later=owing and turned_away)
            else:
                talk = await self.attacker.talk()
                try:
                    turned_away = await self._attack(shape, hidden, talk)
                    await self._work_after(later=owing and turned_away)
                finally:
                    await talk.close()
            if turned_away:
                return  # for its head, which is the same whatever it hides

    async def _attack_framed(self, shape: Framed, hidden: bytes) -> bool:
        """Whether the enforcer refused the message, the connection, or HTTP/2 as such."""
        if self._no_http2:
            return True
        try:
            wire = await self.attacker.dial_framed()
        except (Closed, TimeoutError):
            self._no_http2 = True
            return True
        try:
            try:
                connection = await connect(wire, timeout_seconds=TIMEOUT_SECONDS)
            except (Closed, TimeoutError):
                self._no_http2 = True
                raise
            connection.timeout_seconds = FRAMED_SECONDS
            fields, body = shape.make(self.attacker.base, hidden)
            answer = await connection.ask(fields, body)
        except (Closed, TimeoutError):
            return True
        finally:
            await wire.close()
        self._look_for_theft(answer)
        return refusal(answer, self.wordless) is not None

    async def _attack(self, shape: Shape, hidden: bytes, talk: Talk) -> bool:
        """Whether the enforcer refused the message as a whole."""
        method = self.attacker.base.method
        answer = await play(talk, shape.make(self.attacker.base, hidden), method)
        answer = answer or await talk.answer(method, SILENCE_SECONDS)
        if answer is None:
            return False
        self._look_for_theft(answer)
        if refusal(answer, self.wordless) or talk.ended:
            return refusal(answer, self.wordless) is not None
        extra = await talk.answer(method, LATE_SECONDS / 10) if self.forbidden else None
        if extra is not None and not refusal(extra, self.wordless | {400}):
            raise Disturbed(
                f"one request was answered twice: {answer.status}, {extra.status}, "
                f"{extra.body[:40]!r}"
            )
        return False

    async def catch_up(self) -> None:
        """The work that the victim still owes. Raises :class:`Disturbed`."""
        if self._owes:
            await self._work()

    async def _work_after(self, *, later: bool) -> None:
        if later:
            self._owes = True
        else:
            await self._work()

    async def _work(self) -> None:
        self._owes = False
        for _ in range(ASKED_AFTER):
            answer = await self._ask_on()
            if answer is None or not self._is_usual(answer):
                await self._doubt(answer)

    async def _doubt(self, odd: Answer | None) -> None:
        """An unusual answer may be the app's own doing: it is, if it comes undisturbed, too."""
        if odd is not None and self.marks.hidden in _text(odd) and not await self._is_kept(odd):
            raise Disturbed(f"the victim was answered {odd.status} with the attacker's own text")
        again = [await self._ask(self.victim) for _ in range(ASKED_AGAIN)]
        if _unanswered(odd) and self.witness is not None:
            return  # perhaps a slow app: what the witness saw of the request decides
        if odd is None or app_is_absent(odd):
            # A connection that broke: told apart from an app that is busy by asking again.
            if all(a is not None and self._is_usual(a) for a in again):
                raise Broken(f"the victim was answered {odd.status if odd else 'nothing'}")
            return
        usual = self.usual[0]
        self.usual += [answer for answer in again if answer is not None]
        if self._is_usual(odd):
            return
        seen = (
            f"the victim was answered {odd.status}, {len(odd.body)} bytes, instead of "
            f"{usual.status}, {len(usual.body)} bytes"
        )
        if odd.status in APP_FAILED and self.witness is not None:
            self._failed.append(seen)  # its database, say: what the witness saw decides
            return
        raise Disturbed(seen)

    async def _is_kept(self, odd: Answer) -> bool:
        """Whether a text of the attacker's is what the app was rightly told, and passes on.

        As a list of notes is. It is if a text that hides nothing comes back, too; whether a request
        came of what was hidden, the witness says.
        """
        if odd.status not in {known.status for known in self.usual}:
            return False
        if self._passes_on is None:
            said, base = f"{self.marks.token}c", self.attacker.base
            length = b"content-length: %d\r\n" % len(said)
            talk = await self.attacker.talk()
            try:
                await talk.ask(base.head(length) + said.encode(), base.method, TIMEOUT_SECONDS)
            finally:
                await talk.close()
            answer = await self._ask(self.victim)
            self._passes_on = answer is not None and said in _text(answer)
        return self._passes_on

    def overhear(self) -> None:
        """What the witness has to say. Raises :class:`Disturbed`, :class:`Unseen`."""
        if self.witness is None:
            return
        conversations = self.witness.conversations(self.marks.token.encode())
        requests = [requests_in(conversation.asked) for conversation in conversations]
        for conversation, asked in zip(conversations, requests, strict=True):
            extra = beyond(conversation, asked).strip()
            if extra and not extra.startswith(IDLE_TIMEOUT):
                raise Disturbed(f"the app answered what no proxy asked: {extra[:40]!r}")
        token, forged = self.marks.token.encode(), FORGED.encode()
        heard_of = [h for asked in requests for h in asked if h.holds(token) or h.holds(forged)]
        for heard in heard_of:  # of others that share a connection, those in a duel judge theirs
            self._judge(heard)
        if self.witness.missed_since(self._began):
            raise Unseen("the witness was deaf for a moment: packets were dropped")
        if any(conversation.asked_cut for conversation in conversations):
            raise Unseen("more reached the app on one connection than the witness keeps")
        for mark in self._silent:
            if not any(self._is_by(heard, mark) for heard in heard_of):
                raise Unseen("the victim was answered nothing, and nobody saw its request arrive")
        if self._failed:
            raise Unseen(f"{self._failed[0]}, and nothing that reached the app explains it")

    def _judge(self, heard: Heard) -> None:
        head = f"{heard.method} {heard.target} {heard.headers}"
        if self.forbidden and self.marks.hidden in head:
            raise Disturbed(f"a request that nobody judged reached the app: {heard.method}")
        told = {name: value for name, value in heard.headers if name in TOLD}
        if any(FORGED in value for value in told.values()):
            raise Disturbed("an identity of the attacker's writing reached the app")
        if self._is_by(heard, self.marks.victim):
            if self.marks.token.encode() in heard.body:
                raise Disturbed("bytes of the attacker's reached the app in the victim's request")
        elif self._is_by(heard, self.marks.attacker):
            if self.marks.victim.encode() in heard.body:
                raise Disturbed("the victim's request reached the app in the attacker's")
            if missing := self.identity - told.keys():
                raise Disturbed(f"a request reached the app without {', '.join(sorted(missing))}")
            if named := heard.hop_by_hop:
                raise Disturbed(f"Connection named to the app {', '.join(sorted(named))}")

    def _heard(self) -> list[Heard]:
        if self.witness is None:
            return []
        seen = self.witness.conversations(self.marks.token.encode())
        token = self.marks.token.encode()
        heard = (h for conversation in seen for h in requests_in(conversation.asked))
        return [h for h in heard if h.holds(token)]

    def _is_by(self, heard: Heard, mark: str) -> bool:
        return any(mark in value for _, value in heard.headers)

    async def _ask_on(self) -> Answer | None:
        """The victim's next request on its own lasting connection; on another if that has ended."""
        if self._working is None or self._working.ended:
            await self.end()
            self._working = await self.victim.talk()
        mark, request = self._next_request()
        answer = await self._answer(self._working, self.victim, request)
        if answer is not None and not answer.whole:
            await self.end()  # the rest of it would be the next one's
        elif answer is None and self._working.ended:
            return await self._ask(self.victim)  # an idle connection may end at any time
        if _unanswered(answer):
            self._silent.append(mark)
        return answer

    def _next_request(self) -> tuple[str, bytes]:
        """The victim's request, with a mark that no other has."""
        self._asked += 1
        mark = f"{self.marks.victim}{self._asked}."
        usual = self.marks.victim.encode()
        return mark, self.victim.plain().replace(usual, mark.encode())

    async def end(self) -> None:
        """The victim goes."""
        if self._working is not None:
            await self._working.close()
            self._working = None

    async def _ask(self, side: Side) -> Answer | None:
        talk = await side.talk()
        mark, request = self._next_request() if side is self.victim else ("", side.plain())
        try:
            answer = await self._answer(talk, side, request)
        finally:
            await talk.close()
        if _unanswered(answer) and mark:
            self._silent.append(mark)
        return answer

    async def _answer(self, talk: Talk, side: Side, request: bytes) -> Answer | None:
        """The whole answer; its head alone where it was found to be a stream."""
        method = side.base.method
        endless = (method, side.base.target)
        if endless in self.streams:
            return await talk.ask_for_head(request, method, TIMEOUT_SECONDS)
        answer = await talk.ask(request, method, TIMEOUT_SECONDS)
        if answer is None and (begun := talk.begun(method)) is not None:
            self.streams.add(endless)
            return begun
        return answer

    def _is_usual(self, answer: Answer) -> bool:
        """As undisturbed: in its status, and in its body where that is always the same."""
        if self.marks.hidden in _text(answer) and not self._passes_on:
            return False
        alike = {known.body for known in self.usual if known.status == answer.status}
        varies = len(alike) > 1
        return bool(alike) and (varies or answer.body in alike)

    def _look_for_theft(self, answer: Answer) -> None:
        if self.marks.victim in _text(answer):
            raise Disturbed("the attacker was answered with the victim's request")


class Broken(Disturbed):
    """A victim's connection broke: an attack only if it happens again."""


def _unanswered(answer: Answer | None) -> bool:
    """Nothing came, or the enforcer waited for the app as long as it may."""
    return answer is None or (answer.status == GATEWAY_TIMEOUT and app_is_absent(answer))


def _text(answer: Answer) -> str:
    return f"{answer.headers}{answer.body.decode('latin-1')}"
