"""What JetStream holds, as facts: streams, and the consumers of those that are declared. Pure.

A stream that holds more than it may from now on keeps that, and gets no more: a lower limit would
make the server throw away what is there. A consumer holds a position, and no message.
"""

import json
from collections.abc import Mapping
from typing import Any

from watertight.servers.facts import Change, Fact, fact
from watertight.servers.nats.compile import NATSGrants
from watertight.servers.nats.storage import consumer_configuration

STREAM, CONSUMER = "stream", "consumer"
KINDS = (STREAM, CONSUMER)
_OF_THE_SERVER = frozenset({"name", "metadata"})
_NOTHING: tuple[object, ...] = (None, False, 0, -1, "", "none", [], {})
"""What a field may have that is not set."""
_LIMITS = {"max_msgs": "messages", "max_bytes": "bytes"}
"""Limit → how much of it a stream holds, in its ``state``."""


def stream_fact(configuration: Mapping[str, Any], state: Mapping[str, Any]) -> Fact:
    """One stream, and what it holds."""
    held = {what: state.get(what, 0) for what in _LIMITS.values()}
    return fact(STREAM, (configuration["name"],), **_said(configuration), **_said(held))


def consumer_fact(stream: str, name: str, configuration: Mapping[str, Any]) -> Fact:
    """One consumer."""
    return fact(CONSUMER, (stream, name), **_said(configuration))


def desired(grants: NATSGrants, found: frozenset[Fact]) -> frozenset[Fact]:
    """What must be so, without a loss of what streams hold."""
    held = {one.key: held_by(one) for one in found if one.kind == STREAM}
    streams = {
        stream_fact(_without_loss(wanted, state), state)
        for name, wanted in grants.streams.items()
        for state in (held.get((name,), {}),)
    }
    consumers = {
        consumer_fact(stream, service, consumer_configuration(service))
        for stream, services in grants.consumers.items()
        for service in services
    }
    return frozenset(streams | consumers)


def held_by(stream: Fact) -> dict[str, int]:
    """How many ``messages`` and ``bytes``."""
    said = dict(stream.value)
    return {what: int(said.get(what, 0)) for what in _LIMITS.values()}


def configuration_of(one: Fact) -> dict[str, Any]:
    """As the API takes it."""
    said = {name: text for name, text in one.value if name not in _LIMITS.values()}
    found = {name: _value(text) for name, text in said.items()}
    return {"name": one.key[0], **found} if one.kind == STREAM else found


def told(change: Change) -> str:
    """One difference, and why a stream is not removed, or its limit is another than declared."""
    if change.thing.kind != STREAM:
        return change.what
    held = held_by(change.thing)
    if change.removes and held["messages"]:
        name = change.thing.key[0]
        return (
            f"{change.what} and holds {held['messages']} messages: declare it, or delete it with "
            f"what it holds (`nats stream rm {name}`)"
        )
    said = dict(change.thing.value)
    full = [f"{held[w]} {w}" for limit, w in _LIMITS.items() if said.get(limit) == str(held[w])]
    return (
        f"{change.what}; it holds {' and '.join(full)}, and gets no more" if full else change.what
    )


def _without_loss(wanted: Mapping[str, Any], held: Mapping[str, int]) -> Mapping[str, Any]:
    more = {lim: held.get(w, 0) for lim, w in _LIMITS.items() if 0 < wanted[lim] < held.get(w, 0)}
    return {**wanted, **more}


def _said(configuration: Mapping[str, Any]) -> Mapping[str, Any]:
    """Without what the server fills in, or what says nothing: one says so, another is silent."""
    return {
        name: value
        for name, value in configuration.items()
        if name not in _OF_THE_SERVER and value not in _NOTHING
    }


def _value(text: str) -> Any:
    """What stands in a fact as text: a word of the API's, or JSON."""
    try:
        return json.loads(text)
    except ValueError:
        return text
