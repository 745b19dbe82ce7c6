"""Nothing is lost: what an app answers arrives whole, and then the end arrives.

The witness behind the door knows what the app said and whether it has closed; the caller knows
what came. How much an app says is its own affair: probes ask for what is granted, and the report
names the sizes that crossed.
"""

import secrets
from collections.abc import Iterator

from watertight.attack.arena import Arena
from watertight.attack.http import Answer
from watertight.attack.inside import InsideWire, dial_inside
from watertight.attack.overheard import answers_in, requests_in
from watertight.attack.places import idle
from watertight.attack.probe import Observation, Probe, no_key, not_run, refused, served
from watertight.attack.wire import Absent, Closed
from watertight.attack.witness import Conversation, Witness
from watertight.dataplane.attacks import edge
from watertight.dataplane.attacks.control import permitted
from watertight.dataplane.attacks.desync.sides import Caller, NoKey, Person, outsiders
from watertight.dataplane.attacks.make import use
from watertight.dataplane.attacks.replies import app_is_absent, refusal
from watertight.dataplane.attacks.requests import TIMEOUT_SECONDS
from watertight.dataplane.attacks.ways import Way, ways
from watertight.model.system import Protocol, System

END_SECONDS = 3.0
"""An end that comes later than this after the last byte was lost on the way."""
UNSEEN = "no packet socket is allowed here: what the app said is not known"


def probes(system: System) -> Iterator[Probe]:
    """For every HTTP and every TCP channel between services, and for each app at the gateway."""
    for way in ways(system):
        if not way.from_service:
            continue
        if way.listens.protocol is Protocol.HTTP:
            request = permitted(way)
            what = f"all that {way.callee} answers to {request.method} {request.path}, and the end"
            caller = Caller(way, request)
            app = (way.callee, way.listens.port)
            yield use("wholeness.answer", way.channel, what, _answer, caller, *app)
        elif way.listens.protocol is Protocol.TCP:
            what = f"all that {way.callee} says to a line of text and an end, and its own end"
            yield use("wholeness.stream", way.channel, what, _stream, way)
    for name, listens, outsider in outsiders(system):
        what = f"all that {name} answers at {outsider.route.path}, and the end"
        yield use("wholeness.answer", edge.CHANNEL, what, _answer, outsider, name, listens.port)


async def _answer(arena: Arena, person: Person, app: str, port: int) -> Observation:
    """Asked as many clients ask: ``Connection: close``, and all that comes until the end."""
    mark = f"wt{secrets.token_hex(6)}"
    async with arena.witness(app, port) as witness:
        try:
            side = await person.side(arena, mark)
            talk = await side.talk()
        except NoKey as missing:
            return no_key(str(missing))
        except (Absent, Closed) as gone:
            return refused(str(gone))
        method, last = side.base.method, side.saying(("connection", "close"))
        try:
            answer = await talk.ask(last.plain(), method, TIMEOUT_SECONDS)
            after = await talk.answer(method, END_SECONDS)
        finally:
            await talk.close()
        if answer is None and (begun := talk.begun(method)) is not None and not refusal(begun):
            return served(f"{begun.status}, and it goes on; its end was not waited for")
        if answer is None or refusal(answer) or app_is_absent(answer):
            return refused(f"answered {answer.status}" if answer else talk.ended or "no answer")
        if after is not None or not talk.ended:
            return refused(f"{len(answer.body)} bytes, and then no end")
        return _compared(answer, witness, mark)


def _compared(answer: Answer, witness: Witness | None, mark: str) -> Observation:
    if witness is None:
        return served(f"{len(answer.body)} bytes, whole by their own account; {UNSEEN}")
    said = [body for seen in witness.conversations(mark.encode()) for body in _said(seen, mark)]
    if not said:
        return not_run("the witness did not see the request reach the app")
    if answer.body not in said:
        most = max(len(body) for body in said)
        return refused(f"{len(answer.body)} bytes came, and the app had said {most}")
    return served(f"all {len(answer.body)} bytes that the app said, then the end")


def _said(seen: Conversation, mark: str) -> Iterator[bytes]:
    """The bodies with which the app answered the marked requests of one connection."""
    asked = requests_in(seen.asked)
    answers, _rest = answers_in(seen.answered, [h.method for h in asked], ended=seen.ended)
    for heard, answer in zip(asked, answers, strict=False):
        if any(mark in value for _, value in heard.headers):
            yield answer.body


async def _stream(arena: Arena, way: Way) -> Observation:
    mark = f"wt{secrets.token_hex(6)}".encode()
    inside = await arena.inside(way.caller)
    host = arena.address(way.caller, way.callee)
    async with arena.witness(way.callee, way.listens.port) as witness:
        try:
            wire = await dial_inside(
                inside, host, way.listens.port, timeout_seconds=TIMEOUT_SECONDS
            )
        except Absent as gone:
            return refused(str(gone))
        try:
            await wire.send(mark + b"\r\n")
            await wire.finish()
            received, ended = await _until_silence(wire)
        finally:
            await wire.close()
        end = ", then the end" if ended else "; the app did not end"
        if witness is None:
            return served(f"{len(received)} bytes{end}; {UNSEEN}")
        seen = witness.conversations(mark)
        if not seen:
            return refused("the line never reached the app")
        (conversation, *_) = seen
        if received != conversation.answered:
            return refused(f"{len(received)} of {conversation.answered_bytes} bytes came")
        if conversation.ended and not ended:
            return refused(f"{len(received)} bytes came, and the app's end did not")
        return served(f"all {len(received)} bytes that the app said{end}")


async def _until_silence(wire: InsideWire) -> tuple[bytes, bool]:
    """What came, and whether its end came."""
    received = b""
    try:
        with idle():
            while data := await wire.receive(END_SECONDS):
                received += data
    except (TimeoutError, Closed):
        return received, False
    return received, True
