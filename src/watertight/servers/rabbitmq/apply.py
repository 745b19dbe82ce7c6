"""Makes a broker its plan, tells what it is not, serves new certificates, ends sessions."""

import asyncio
import hashlib
import time
from collections.abc import Sequence

from watertight.enforcers.contract import Applied
from watertight.enforcers.resource import ServerHost, ServerPlan, ServerRefused
from watertight.servers.rabbitmq import guard
from watertight.servers.rabbitmq.compile import DEFINITIONS, RabbitMQGrants
from watertight.servers.rabbitmq.control import (
    BrokerRefused,
    CookieRefused,
    binary,
    control,
    evaluate,
)
from watertight.servers.rabbitmq.differences import ACTOR, Difference, differences
from watertight.servers.rabbitmq.in_force import State, look, not_in_force, record
from watertight.servers.rabbitmq.locate import COMPILER, COOKIE, plugins_directory
from watertight.servers.rabbitmq.versions import fit
from watertight.servers.served import until_served

READY_SECONDS = 60.0
STARTUP_MILLISECONDS = 30_000
POLL_SECONDS = 0.2
OTHER_COOKIE = "the broker's cookie was changed by hand"


async def apply_plan(plan: ServerPlan, host: ServerHost) -> Applied:
    """See :meth:`~watertight.enforcers.resource.ResourceEnforcer.apply`."""
    grants: RabbitMQGrants = plan.grants
    changed = list(await host.write(plan.files))
    state = await _running(plan, host, changed)
    if state is None:
        state = await _started(plan, host)
        changed.append("started")
    odd = differences(grants.definitions, state.definitions)
    if odd:
        await _mend(plan, host, odd)
        changed += [difference.what for difference in odd]
    if DEFINITIONS in changed and not odd:
        changed.remove(DEFINITIONS)  # what it says was so already
    versions = {name: _version(text) for name, text in plan.files.items()}
    return Applied(versions, tuple(changed))


def _version(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


async def _running(plan: ServerPlan, host: ServerHost, changed: list[str]) -> State | None:
    """The broker, if it runs with what its files say; else it is stopped, and ``changed`` grows.

    It reads its files only when it starts.
    """
    if not await host.running():
        return None
    stale = []
    if not set(changed) - {DEFINITIONS}:
        try:
            state = await _look(plan, host)
        except CookieRefused:
            stale = [OTHER_COOKIE]
        else:
            stale = not_in_force(plan, state)
            if not stale:
                return state
    changed += stale
    await host.stop()
    return None


async def _started(plan: ServerPlan, host: ServerHost) -> State:
    """Starts it with the plan's files, a guard compiled from them, and a cookie of its own making.

    What a broker of an unfit version granted, it grants no more: it is stopped.
    """
    sources = host.placement.server_directory(plan.resource)
    built = plugins_directory(plan, host.placement) / guard.DIRECTORY
    cookie = host.placement.server_data(plan.resource) / COOKIE
    script = f'rm -f "$4" && {guard.BUILD}'
    arguments = (COMPILER, str(sources), str(built), str(cookie))
    done = await host.run(("/bin/sh", "-c", script, "sh", *arguments))
    if done.status:
        raise BrokerRefused(
            f"{plan.resource}: the plugin {guard.NAME} does not compile: {done.output[-300:]}"
        )
    await host.start()
    await _until_up(host)
    state = await look(plan, host)
    if not fit(state.version):
        await host.stop()
        raise ServerRefused(
            plan.at,
            f"{plan.resource}: RabbitMQ {state.version} cannot be held to routing keys.",
            remedy="Install 3.10 to 3.13, or 4.0.3 or newer.",
        )
    await record(plan, host, state)
    return state


async def _until_up(host: ServerHost) -> None:
    """The port accepts a moment before the broker has started all of it."""
    deadline = time.monotonic() + READY_SECONDS
    while True:
        try:
            up = await evaluate(
                host, f"rabbit:await_startup(node(), false, {STARTUP_MILLISECONDS})"
            )
            if up != "ok":
                raise BrokerRefused(f"{host.resource}: the broker does not start up: {up}")
        except BrokerRefused:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(POLL_SECONDS)
        else:
            return


async def _look(plan: ServerPlan, host: ServerHost) -> State:
    """What the broker is, also if it has just been started again after it died."""
    try:
        return await look(plan, host)
    except CookieRefused:
        raise
    except BrokerRefused:
        await _until_up(host)
        return await look(plan, host)


async def _mend(plan: ServerPlan, host: ServerHost, odd: Sequence[Difference]) -> None:
    """Takes away what was not declared, then brings what is; looks what is left."""
    removals = [difference.removal for difference in odd if difference.removal]
    if removals:
        await evaluate(host, *removals, "ok")
    if len(removals) < len(odd):
        file = host.placement.server_directory(plan.resource) / DEFINITIONS
        await control(host, "import_definitions", str(file))
    left = differences(plan.grants.definitions, (await look(plan, host)).definitions)
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
        if not (directory / name).is_file() or (directory / name).read_text() != text
    ]
    found += [
        f"{path.name} was added by hand"
        for path in sorted(directory.iterdir())
        if path.name not in plan.files
    ]
    if not await host.running():
        return [*found, "the server does not run"]
    try:
        state = await _look(plan, host)
    except CookieRefused:
        return [*found, OTHER_COOKIE]
    grants: RabbitMQGrants = plan.grants
    odd = differences(grants.definitions, state.definitions)
    return [*found, *not_in_force(plan, state), *(difference.what for difference in odd)]


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
