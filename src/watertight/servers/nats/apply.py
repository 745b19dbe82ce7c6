"""Makes a NATS server its plan, tells what it is not, and ends the sessions of a service."""

import asyncio
import datetime as dt
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from watertight.enforcers.contract import Applied
from watertight.enforcers.resource import ServerHost, ServerPlan
from watertight.servers.nats import streams
from watertight.servers.nats.accounts import CONNZ
from watertight.servers.nats.compile import CONFIGURATION, NATSGrants
from watertight.servers.nats.operator import RECOVERY_SECONDS, Operator, operator
from watertight.servers.nats.reload import (
    POLL_SECONDS,
    ReloadFailed,
    files_of,
    moment,
    put_in_force,
)
from watertight.servers.nats.shown_out import shown_out

_ALL = 1 << 20
"""More sessions than a server has (max_connections is 65,536 by default)."""
_CLOSED = 1
"""``state`` in CONNZ: connections that have ended."""

_NEVER_IN = "Authentication Failure"


async def apply_plan(plan: ServerPlan, host: ServerHost) -> Applied:
    """See :meth:`~watertight.enforcers.resource.ResourceEnforcer.apply`."""
    grants: NATSGrants = plan.grants
    changed = await put_in_force(plan, host)
    if grants.streams:
        async with operator(plan, host, within_seconds=RECOVERY_SECONDS) as session:
            changed += await streams.converge(plan, session)
    versions = {
        **{name: _version(text) for name, text in plan.files.items()},
        "streams": _version(
            json.dumps([dict(grants.streams), dict(grants.consumers)], sort_keys=True)
        ),
    }
    return Applied(versions, changed)


def _version(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


async def find_drift(plan: ServerPlan, host: ServerHost) -> Sequence[str]:
    """See :meth:`~watertight.enforcers.resource.ResourceEnforcer.drift`."""
    grants: NATSGrants = plan.grants
    standing = files_of(plan, host)
    out = shown_out(plan, host)
    found = [f"{one} is shown out for a while: it took the server's memory" for one in out or ()]
    found += [
        f"{name} was changed by hand" if name in standing else f"{name} is missing"
        for name, text in plan.files.items()
        if standing.get(name) != text and (name != CONFIGURATION or out is None)
    ]
    found += [f"{name} is no file of ours" for name in standing if name not in plan.files]
    if not await host.running():
        return [*found, "the server does not run"]
    if grants.streams:
        async with operator(plan, host) as session:
            found += [line async for line in streams.drift(plan, session)]
    return found


async def cut(plan: ServerPlan, host: ServerHost, service: str) -> int:
    """Ends the sessions of a service that has no user in ``plan``; how many there were.

    The server ends them itself as it loads a configuration without their user; how many, its
    list of ended connections tells.
    """
    grants: NATSGrants = plan.grants
    user = f"spiffe://{grants.trust_domain}/{service}"
    since = dt.datetime.now(dt.UTC)
    await put_in_force(plan, host)
    try:
        async with (
            asyncio.timeout(RECOVERY_SECONDS),
            operator(plan, host, within_seconds=RECOVERY_SECONDS) as session,
        ):
            while True:
                if not await _connections(session, user):
                    break
                await asyncio.sleep(POLL_SECONDS)
            ended = await _connections(session, user, state=_CLOSED)
    except TimeoutError as late:
        raise ReloadFailed(plan.resource, f"sessions of {service} are still open") from late
    return sum(moment(one["stop"]) >= since and one["reason"] != _NEVER_IN for one in ended)


async def _connections(session: Operator, user: str, **options: Any) -> Sequence[Mapping[str, Any]]:
    answer = await session.ask(CONNZ, {"auth": True, "user": user, "limit": _ALL, **options})
    connections: Sequence[Mapping[str, Any]] = answer["data"]["connections"]
    return connections
