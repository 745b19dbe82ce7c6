"""Puts a configuration in force, and knows that it is.

nats-server keeps what it has when a new configuration is wrong, and says so only in its log. So
each file is tried first (``nats-server -t``), and after the signal the server is asked when it
last loaded its configuration.
"""

import asyncio
import datetime as dt
import signal

from watertight.enforcers.resource import ServerHost, ServerPlan, ServerRefused
from watertight.errors import WatertightError
from watertight.servers.kind import RunsOtherwise
from watertight.servers.nats.accounts import VARZ
from watertight.servers.nats.operator import (
    RECOVERY_SECONDS,
    Operator,
    Refused,
    ServerUnreachable,
    operator,
)

DEADLINE_SECONDS = 10.0
"""How long a server that answers may take to load a configuration."""
POLL_SECONDS = 0.01
_FAILED = "Failed to reload server configuration: "
_NEEDS_RESTART = "config reload not supported"


class ReloadFailed(ServerRefused):
    """The server goes on with what it had; ``reason`` in its own words."""

    def __init__(self, plan: ServerPlan, reason: str) -> None:
        super().__init__(
            plan.at,
            f"{plan.resource} does not take its configuration: {reason}",
            f"Look at the log of {plan.resource}.",
        )


async def try_files(plan: ServerPlan, host: ServerHost) -> None:
    """Raises :class:`~watertight.enforcers.resource.ServerRefused`."""
    done = await host.run([*host.process.argv, "-t"])
    if done.status != 0:
        raise ServerRefused(
            plan.at,
            f"nats-server refuses the configuration of {plan.resource}: {done.output.strip()}",
        )


async def reload(plan: ServerPlan, host: ServerHost) -> None:
    """Has the server load its files, and returns once it has.

    Raises :class:`ReloadFailed`, and :class:`~watertight.servers.kind.RunsOtherwise` where only a
    restart helps.
    """
    failed_before = _failure(host.log())
    since = dt.datetime.now(dt.UTC)
    await _signal(host)
    clock = asyncio.get_running_loop()
    began = clock.time()
    last: WatertightError | None = None
    while True:
        failed = _failure(host.log())
        if failed != failed_before and failed is not None:
            reason = failed.partition(_FAILED)[2]
            raise RunsOtherwise(reason) if _NEEDS_RESTART in reason else ReloadFailed(plan, reason)
        try:
            async with operator(plan, host) as session:
                if await loaded(session) >= since:
                    return
            last = None
        except (ServerUnreachable, Refused) as error:
            last = error  # what it served until now may have expired, or it was killed
        if last and not await host.running():
            await host.start()  # and so it reads its files
        seconds = clock.time() - began
        if seconds > (RECOVERY_SECONDS if last else DEADLINE_SECONDS):
            why = last.message if last else "no sign of it"
            raise ReloadFailed(plan, f"{why}, {seconds:.0f} s after the signal") from last
        await asyncio.sleep(POLL_SECONDS)


async def _signal(host: ServerHost) -> None:
    """A server that was killed is being started, with the files that stand."""
    try:
        await host.signal(signal.SIGHUP)
    except (WatertightError, OSError):
        if await host.running():
            raise


def _failure(log: str) -> str | None:
    """The last line that tells of a reload that failed, with its time."""
    lines = [line for line in log.splitlines() if _FAILED in line]
    return lines[-1] if lines else None


async def loaded(session: Operator) -> dt.datetime:
    """When the server last loaded its configuration."""
    answer = await session.ask(VARZ)
    return moment(answer["data"]["config_load_time"])


def moment(text: str) -> dt.datetime:
    """A time as Go writes it, rounded up from nanoseconds to our clock's microseconds.

    Up, so that what came later never looks earlier.
    """
    return dt.datetime.fromisoformat(text) + dt.timedelta(microseconds=1)
