"""Makes a broker its plan, tells what it is not, serves new certificates, ends sessions."""

import asyncio
import hashlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

from watertight.enforcers.contract import Applied
from watertight.enforcers.rabbitmq.compile import CONFIGURATION, DEFINITIONS, RabbitMQGrants
from watertight.enforcers.rabbitmq.control import (
    BrokerRefused,
    binary,
    control,
    evaluate,
    exported,
)
from watertight.enforcers.rabbitmq.differences import ACTOR, Difference, differences
from watertight.enforcers.resource import ServerHost, ServerPlan, ServerRefused
from watertight.enforcers.served import until_served

READY_SECONDS = 60.0
POLL_SECONDS = 0.2


async def apply_plan(plan: ServerPlan, host: ServerHost) -> Applied:
    """See :meth:`~watertight.enforcers.resource.ResourceEnforcer.apply`."""
    grants: RabbitMQGrants = plan.grants
    changed = list(await host.write(plan.files))
    running = await host.running()
    if running and CONFIGURATION in changed:
        await host.stop()
        running = False
    if not running:
        await host.start()
        await _until_up(host)
        changed.append("started")
    odd = differences(grants.definitions, await _exported(host))
    if odd:
        await _mend(plan, host, odd)
        changed += [difference.what for difference in odd]
    if DEFINITIONS in changed and not odd:
        changed.remove(DEFINITIONS)  # what it says was so already
    versions = {name: _version(text) for name, text in plan.files.items()}
    return Applied(versions, tuple(changed))


def _version(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


async def _until_up(host: ServerHost) -> None:
    """The port accepts a moment before the broker answers its own command."""
    deadline = time.monotonic() + READY_SECONDS
    while True:
        try:
            await control(host, "await_startup", "--timeout", "30")
        except BrokerRefused:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(POLL_SECONDS)
        else:
            return


async def _exported(host: ServerHost) -> Mapping[str, Any]:
    """What the broker holds, also if it has just been started again after it died."""
    try:
        return await exported(host)
    except BrokerRefused:
        await _until_up(host)
        return await exported(host)


async def _mend(plan: ServerPlan, host: ServerHost, odd: Sequence[Difference]) -> None:
    """Takes away what was not declared, then brings what is; looks what is left."""
    removals = [difference.removal for difference in odd if difference.removal]
    if removals:
        await evaluate(host, *removals, "ok")
    if len(removals) < len(odd):
        file = host.placement.server_directory(plan.resource) / DEFINITIONS
        await control(host, "import_definitions", str(file))
    left = differences(plan.grants.definitions, await exported(host))
    wrong = [d.what for d in left if not d.what.startswith("queue ") or not d.removal]
    if wrong:
        raise ServerRefused(
            plan.at,
            f"{plan.resource} does not become what is declared: {'; '.join(wrong)}.",
            remedy="A queue or exchange keeps what it was made as: remove it by hand.",
        )


async def find_drift(plan: ServerPlan, host: ServerHost) -> Sequence[str]:
    """See :meth:`~watertight.enforcers.resource.ResourceEnforcer.drift`."""
    directory = host.placement.server_directory(plan.resource)
    found = [
        f"{name} was changed by hand"
        for name, text in plan.files.items()
        if not (directory / name).exists() or (directory / name).read_text() != text
    ]
    if not await host.running():
        return [*found, "the server does not run"]
    grants: RabbitMQGrants = plan.grants
    odd = differences(grants.definitions, await exported(host))
    return [*found, *(difference.what for difference in odd)]


async def rotate(plan: ServerPlan, host: ServerHost) -> None:
    """The broker keeps certificates in memory for two minutes; it is told to forget them."""
    await evaluate(host, "ssl:clear_pem_cache()")
    await until_served(plan, host)


async def cut(plan: ServerPlan, host: ServerHost, service: str) -> int:
    """Takes the user away, then ends its connections; how many there were."""
    grants: RabbitMQGrants = plan.grants
    user = binary(f"spiffe://{grants.trust_domain}/{service}")
    said = await evaluate(
        host,
        f"Open = length(rabbit_connection_tracking:list_of_user({user}))",
        f"catch rabbit_auth_backend_internal:delete_user({user}, {ACTOR})",
        f'rabbit_networking:close_all_user_connections({user}, "revoked")',
        "Open",
    )
    return int(said) if said.isdigit() else 0
