"""One server, from nothing to its plan: initialised, started, converged; and looked at, and cut."""

import asyncio
import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from watertight.enforcers.contract import Applied
from watertight.enforcers.resource import ServerHost, ServerPlan
from watertight.errors import WatertightError
from watertight.servers.converge import DOES_NOT_RUN, file_drift
from watertight.servers.postgresql.admin import (
    POLL_SECONDS,
    NotLetIn,
    administer,
    until_ready,
)
from watertight.servers.postgresql.compile import IDENTITIES, operator_identity
from watertight.servers.postgresql.converge import (
    IN_BETWEEN,
    converge,
    differences,
    end_sessions,
)
from watertight.servers.postgresql.initialise import initialise, refuse_root
from watertight.servers.postgresql.reload import reload
from watertight.servers.postgresql.steps import disable

REVOKE_SECONDS = 5.0


def files_of(plan: ServerPlan, host: ServerHost) -> Mapping[str, str]:
    """The configuration, with the operator, whom the host alone knows."""
    operator = operator_identity(host.operator)
    return {**plan.files, IDENTITIES: plan.files[IDENTITIES] + operator}


async def apply(plan: ServerPlan, host: ServerHost) -> Applied:
    """See ``ResourceEnforcer.apply``.

    The database is converged before the files of a running server change, so that an error in
    what is granted leaves who may come in as it was.
    """
    refuse_root(host)
    files = files_of(plan, host)
    changed = ["data directory made"] if await initialise(host) else []
    if await host.running():
        changed += await converge(plan, host)
        changed += await host.write(files)
        await reload(plan, host)
    else:
        changed += await host.write(files)
        await host.start()
        await until_ready(plan, host, host.process.start_seconds)
        done = await converge(plan, host)
        changed += done
        if any(step.startswith("ALTER SYSTEM") for step in done):
            await reload(plan, host)
    versions = {name: _version(text) for name, text in files.items()}
    versions["grants"] = _version(repr(plan.grants))
    return Applied(versions, tuple(changed))


def _version(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


async def drift(plan: ServerPlan, host: ServerHost) -> Sequence[str]:
    """See ``ResourceEnforcer.drift``."""
    lines = file_drift(replace(plan, files=files_of(plan, host)), host)
    if not await host.running():
        return [*lines, DOES_NOT_RUN]
    return [*lines, *await differences(plan, host)]


async def revoke(plan: ServerPlan, host: ServerHost, service: str) -> int:
    """See ``ResourceEnforcer.revoke``: no new session, then the end of those that are there.

    What was granted to the role, the next ``apply`` takes from it. Whatever fails, all the rest is
    done. Raises WatertightError then, and if a session outlives the deadline.
    """
    files = files_of(plan, host)
    if not await host.running():
        await host.write(files)
        return 0
    wrong: list[WatertightError] = []
    try:
        await host.write(files)
        await reload(plan, host)  # from now on, nobody is let in under that name
    except WatertightError as error:
        wrong.append(error)
    try:
        ended = await _cut(plan, host, service)
    except NotLetIn:
        # Nobody is, if locks have used its memory up: to cut one, all are.
        await host.stop()
        await host.start()
        await until_ready(plan, host, host.process.start_seconds)
        ended = await _cut(plan, host, service)
    if wrong:
        raise wrong[0]
    return ended


async def _cut(plan: ServerPlan, host: ServerHost, service: str) -> int:
    """Its sessions end first: what one holds, its own role's row too, keeps us waiting.

    Ends whoever came in meanwhile, too; how many there were. Raises WatertightError.
    """
    deadline = time.monotonic() + REVOKE_SECONDS
    ended, disabled = set[int](), False
    async with administer(plan, host) as connection:
        there = await connection.execute("SELECT FROM pg_roles WHERE rolname = %s", [service])
        if there.rowcount == 0:
            return 0
        while (now := await end_sessions(connection, service)) or not disabled:
            ended |= now
            if not disabled:
                try:
                    await connection.execute(disable(service).encode())
                    disabled = True
                    continue  # one that was logging in while we looked
                except IN_BETWEEN as error:
                    late = error
            if time.monotonic() > deadline:
                raise WatertightError(
                    f"A session of {service} at {plan.resource} does not end."
                    if now
                    else f"The role of {service} at {plan.resource} cannot be disabled: {late}.",
                    remedy="`watertight up` restarts the server.",
                )
            await asyncio.sleep(POLL_SECONDS)
    return len(ended)
