"""Streams and consumers: makes them what the plan says, and tells what they are not.

A stream that nobody declared and that holds messages is never deleted: it is reported. One that
holds more than it may from now on keeps that, and gets no more: a lower limit would make the server
throw away what is there. A consumer
that nobody declared is removed: it holds a position, and no message.
"""

from collections.abc import AsyncIterator, Mapping
from typing import Any

from watertight.enforcers.resource import ServerPlan
from watertight.servers.nats.compile import NATSGrants
from watertight.servers.nats.operator import Operator, Refused, refused_at
from watertight.servers.nats.storage import consumer_configuration

API = "$JS.API"
_SERVERS_OWN = frozenset({"metadata", "name"})
"""Fields that the server fills in."""
_NOTHING: tuple[object, ...] = (None, False, 0, -1, "", "none", [], {})
"""Values that a field which we do not set may have."""


async def converge(plan: ServerPlan, session: Operator) -> tuple[str, ...]:
    """Makes streams and consumers so; says what it changed.

    Raises :class:`~watertight.enforcers.resource.ServerRefused`.
    """
    grants: NATSGrants = plan.grants
    changed = []
    there = await _streams(session)
    for name, stream in there.items():
        if name not in grants.streams and not stream["state"]["messages"]:
            await session.ask(f"{API}.STREAM.DELETE.{name}")
            changed.append(f"stream {name}: removed; nobody declared it, and it was empty")
    for name, wanted in grants.streams.items():
        found = there.get(name)
        if found is None:
            await _ask(plan, session, f"{API}.STREAM.CREATE.{name}", wanted, f"stream {name}")
            changed.append(f"stream {name}: made")
        else:
            bounded, more = without_loss(wanted, found["state"])
            if odd := differences(bounded, found["config"]):
                await _ask(plan, session, f"{API}.STREAM.UPDATE.{name}", bounded, f"stream {name}")
                changed.append(f"stream {name}: {odd}, mended{more}")
        changed += await _converge_consumers(plan, session, name)
    return tuple(changed)


async def _converge_consumers(plan: ServerPlan, session: Operator, stream: str) -> list[str]:
    grants: NATSGrants = plan.grants
    changed = []
    there = await _consumers(session, stream)
    for name in there:
        if name not in grants.consumers[stream]:
            await session.ask(f"{API}.CONSUMER.DELETE.{stream}.{name}")
            changed.append(f"consumer {name} of {stream}: removed; nobody declared it")
    for service in grants.consumers[stream]:
        wanted = consumer_configuration(service)
        odd = differences(wanted, there[service]) if service in there else None
        if odd == "":
            continue
        what = f"consumer {service} of {stream}"
        subject = f"{API}.CONSUMER.DURABLE.CREATE.{stream}.{service}"
        await _ask(plan, session, subject, {"stream_name": stream, "config": wanted}, what)
        changed.append(f"{what}: made" if odd is None else f"{what}: {odd}, mended")
    return changed


async def _ask(
    plan: ServerPlan, session: Operator, subject: str, body: Mapping[str, Any], what: str
) -> None:
    try:
        await session.ask(subject, body)
    except Refused as error:
        remedy = (
            f"Nothing was lost. If {what} stands in the way, delete it with the command `nats`."
        )
        raise refused_at(plan, what, error, remedy) from error


async def drift(plan: ServerPlan, session: Operator) -> AsyncIterator[str]:
    """What differs from the plan, a line each."""
    grants: NATSGrants = plan.grants
    there = await _streams(session)
    for name, stream in there.items():
        if name not in grants.streams:
            held = stream["state"]["messages"]
            yield (
                f"stream {name} is not declared and holds {held} messages: declare it, or delete "
                f"it with what it holds (`nats stream rm {name}`)"
            )
    for name, wanted in grants.streams.items():
        found = there.get(name)
        if found is None:
            yield f"stream {name} is missing"
            continue
        bounded, more = without_loss(wanted, found["state"])
        if odd := differences(bounded, found["config"]):
            yield f"stream {name}: {odd}{more}"
        consumers = await _consumers(session, name)
        for service in grants.consumers[name]:
            if service not in consumers:
                yield f"consumer {service} of {name} is missing"
            elif odd := differences(consumer_configuration(service), consumers[service]):
                yield f"consumer {service} of {name}: {odd}"
        for other in consumers:
            if other not in grants.consumers[name]:
                yield f"consumer {other} of {name} is not declared"


async def _streams(session: Operator) -> dict[str, dict[str, Any]]:
    found = [one async for one in _pages(session, f"{API}.STREAM.LIST", "streams")]
    return {stream["config"]["name"]: stream for stream in found}


async def _consumers(session: Operator, stream: str) -> dict[str, dict[str, Any]]:
    found = [one async for one in _pages(session, f"{API}.CONSUMER.LIST.{stream}", "consumers")]
    return {consumer["name"]: consumer["config"] for consumer in found}


async def _pages(session: Operator, subject: str, key: str) -> AsyncIterator[dict[str, Any]]:
    """All of a list that comes in pages."""
    seen = 0
    while True:
        page = await session.ask(subject, {"offset": seen})
        items = page.get(key) or []
        for item in items:
            yield item
        seen += len(items)
        if not items or seen >= page["total"]:
            return


def without_loss(
    wanted: Mapping[str, Any], state: Mapping[str, Any]
) -> tuple[Mapping[str, Any], str]:
    """The configuration that keeps what the stream holds, and what to say of it."""
    bounded, more = dict(wanted), ""
    for limit, what in (("max_msgs", "messages"), ("max_bytes", "bytes")):
        if 0 < wanted[limit] < state[what]:
            bounded[limit] = state[what]
            more += f"; it holds more than the {wanted[limit]} {what} it may, and gets no more"
    return bounded, more


def differences(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    """``max_bytes is 5 and not 10``; empty if they are the same.

    A field that we do not set must be one that the server fills in, or say nothing.
    """
    odd = [
        f"{key} is {found.get(key)!r} and not {value!r}"
        for key, value in wanted.items()
        if found.get(key) != value and (key in found or value not in _NOTHING)
    ]
    odd += [
        f"{key} is {value!r}"
        for key, value in found.items()
        if key not in wanted and key not in _SERVERS_OWN and not _says_nothing(value)
    ]
    return ", ".join(odd)


def _says_nothing(value: object) -> bool:
    return value in _NOTHING
