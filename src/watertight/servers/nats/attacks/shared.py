"""A stream into which several services publish: none may lose another what is acknowledged to it.

By sending another's message ids first (the server drops what comes with an id that it knows, and
acknowledges it), or by filling the stream until the oldest make room. Both would leave messages
that applications see, so they are tried in a test (``tests/servers/nats/test_shared.py``), and here
the running server is asked, as the operator, whether its streams are such that it would work.
"""

import json
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from watertight.attack.arena import Arena
from watertight.attack.login import enter, genuine
from watertight.attack.probe import Observation, Probe, not_run, refused, served
from watertight.attack.wire import Closed, Wire
from watertight.model.system import Resource, System
from watertight.servers.nats.attacks.declared import LEAF, Caller, callers, meets
from watertight.servers.nats.attacks.dialect import MAKE, NATSDialect, converse, inbox_of
from watertight.servers.nats.declaration import Stream

LEAST_WINDOW = 100_000_000
"""Nanoseconds: nats-server has none shorter."""
Judge = Callable[[Mapping[str, Any]], Observation]


def probes(dialect: NATSDialect, system: System, resource: Resource) -> Iterator[Probe]:
    """For each channel, and each stream into which another publishes too."""
    for caller in callers(dialect, system, resource):
        for stream in caller.streams:
            if not _writes(caller, stream) or not any(_writes(o, stream) for o in caller.others):
                continue
            if stream.duplicate_window_seconds is None:
                yield _probe(
                    "streams.message-ids",
                    caller,
                    stream,
                    f"another's message ids in {stream.name}, sent first by {caller.service} "
                    "(asked of the running server, not carried out)",
                    _window,
                )
            if stream.discard != "old":
                yield _probe(
                    "streams.eviction",
                    caller,
                    stream,
                    f"another's messages pushed out of {stream.name} by those of {caller.service} "
                    "(asked of the running server, not carried out)",
                    _discard,
                )


def _probe(identifier: str, caller: Caller, stream: Stream, attempt: str, judge: Judge) -> Probe:
    return MAKE.attack(
        identifier,
        caller.login.channel,
        attempt,
        judged,
        caller.dialect,
        caller,
        stream.name,
        judge,
    )


def _writes(caller: Caller, stream: Stream) -> bool:
    return any(meets(own, kept) for own in caller.granted.publish for kept in stream.subjects)


def _window(said: Mapping[str, Any]) -> Observation:
    window = said.get("duplicate_window", 0)
    told = f"an id is remembered for {window / 1e9:g} s"
    return served(told) if window > LEAST_WINDOW else refused(told)


def _discard(said: Mapping[str, Any]) -> Observation:
    told = f"discard is {said.get('discard')!r}"
    return refused(told) if said.get("discard") == "new" else served(told)


async def judged(
    arena: Arena, dialect: NATSDialect, caller: Caller, stream: str, judge: Judge
) -> Observation:
    """Asks the running server, as the operator, how a stream is configured."""
    operator = caller.login.resource.name
    wire: Wire | None = None
    try:
        hello = await genuine(arena, dialect, operator)
        login = replace(caller.login, service=operator)
        wire = await enter(arena, dialect, login, hello, door=caller.service)
        # All sessions of the operator are in one account, and hear one another's answers.
        inbox = f"{inbox_of(operator)}.{LEAF}-{secrets.token_hex(8)}"
        asked = f"SUB {inbox} 3\r\nPUB $JS.API.STREAM.INFO.{stream} {inbox} 0\r\n\r\n"
        heard = await converse(wire, asked, until=1)
    except (Closed, TimeoutError) as end:
        return not_run(f"no session of the operator: {end or 'no answer'}")
    finally:
        if wire is not None:
            await wire.close()
    if heard.errors:
        return not_run(heard.errors[0])
    answer = json.loads(heard.messages[0])
    if "config" not in answer:
        return not_run(f"{stream}: {answer.get('error')}")
    return judge(answer["config"])
