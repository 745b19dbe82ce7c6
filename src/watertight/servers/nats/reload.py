"""Puts a configuration in force, and knows that it is.

nats-server keeps what it has when a new configuration is wrong, and says so only in its log. So
each file is tried first (``nats-server -t``), and after the signal the server is asked when it
last loaded its configuration.
"""

import asyncio
import contextlib
import datetime as dt
import signal
import ssl
from pathlib import Path
from weakref import WeakKeyDictionary

from watertight.enforcers.resource import CERTIFICATE, ServerHost, ServerPlan, ServerRefused
from watertight.errors import WatertightError
from watertight.servers.nats.accounts import VARZ
from watertight.servers.nats.operator import (
    RECOVERY_SECONDS,
    Refused,
    ServerUnreachable,
    operator,
)

DEADLINE_SECONDS = 10.0
"""How long a server that answers may take to load a configuration."""
POLL_SECONDS = 0.01
_FAILED = "Failed to reload server configuration: "
_NEEDS_RESTART = "config reload not supported"


class ReloadFailed(WatertightError):
    """The server goes on with what it had; ``reason`` in its own words."""

    def __init__(self, resource: str, reason: str) -> None:
        super().__init__(
            f"{resource} does not take its configuration: {reason}",
            remedy=f"Look at the log of {resource}.",
        )
        self.reason = reason


_changing: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, asyncio.Lock]] = (
    WeakKeyDictionary()
)


def changing(resource: str) -> asyncio.Lock:
    """Held by whoever writes the files of a server."""
    locks = _changing.setdefault(asyncio.get_running_loop(), {})
    return locks.setdefault(resource, asyncio.Lock())


async def put_in_force(plan: ServerPlan, host: ServerHost) -> tuple[str, ...]:
    """Writes the configuration and has the server run with it; says what changed.

    The server loads it anew also where no file changed: somebody may have had it load another.
    If the server refuses, the files that it runs with are back before this raises
    :class:`~watertight.enforcers.resource.ServerRefused`.
    """
    async with changing(plan.resource):
        return await _put_in_force(plan, host)


async def _put_in_force(plan: ServerPlan, host: ServerHost) -> tuple[str, ...]:
    before = files_of(plan, host)
    ran = await host.running()
    changed = list(await host.write(plan.files))
    try:
        await _try(plan, host)
        if not ran:
            await host.start()
            changed.append("started")
        elif await _reload_or_restart(plan, host):
            changed.append("restarted")
        elif changed:
            # What an account that is new imports from others as a service, is in force only with
            # the next load (seen on 2.9 and 2.15).
            await reload(plan, host)
    except WatertightError:
        await host.write(before)
        if ran and not await host.running():
            with contextlib.suppress(WatertightError):  # what was refused is the news, not this
                await host.start()
        raise
    return tuple(changed)


def files_of(plan: ServerPlan, host: ServerHost) -> dict[str, str]:
    """What stands in the server's directory now: name → text."""
    directory = host.placement.server_directory(plan.resource)
    return {
        path.name: path.read_text(encoding="utf-8", errors="replace")
        for path in sorted(directory.iterdir())
        if path.is_file()
    }


async def _try(plan: ServerPlan, host: ServerHost) -> None:
    done = await host.run([*host.process.argv, "-t"])
    if done.status != 0:
        raise ServerRefused(
            plan.at,
            f"nats-server refuses the configuration of {plan.resource}: {done.output.strip()}",
        )


async def _reload_or_restart(plan: ServerPlan, host: ServerHost) -> bool:
    """Whether it had to be a restart."""
    try:
        await reload(plan, host)
    except ReloadFailed as failed:
        if _NEEDS_RESTART not in failed.reason:
            raise ServerRefused(plan.at, failed.message, failed.remedy) from failed
    else:
        return False
    await host.stop()
    await host.start()
    return True


async def reload(plan: ServerPlan, host: ServerHost) -> None:
    """Has the server load its files, and returns once it has. Raises :class:`ReloadFailed`."""
    failed_before = _failure(host.log())
    since = dt.datetime.now(dt.UTC)
    await _signal(host)
    clock = asyncio.get_running_loop()
    began = clock.time()
    last: WatertightError | None = None
    while True:
        failed = _failure(host.log())
        if failed != failed_before and failed is not None:
            raise ReloadFailed(plan.resource, failed.partition(_FAILED)[2])
        try:
            if await _loaded(plan, host) >= since:
                return
            last = None
        except (ServerUnreachable, Refused) as error:
            last = error  # what it served until now may have expired, or it was killed
        if last and not await host.running():
            await host.start()  # and so it reads its files
        seconds = clock.time() - began
        if seconds > (RECOVERY_SECONDS if last else DEADLINE_SECONDS):
            why = last.message if last else "no sign of it"
            raise ReloadFailed(plan.resource, f"{why}, {seconds:.0f} s after the signal") from last
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


async def _loaded(plan: ServerPlan, host: ServerHost) -> dt.datetime:
    """When the server last loaded its configuration."""
    async with operator(plan, host) as session:
        answer = await session.ask(VARZ)
    return moment(answer["data"]["config_load_time"])


def moment(text: str) -> dt.datetime:
    """A time as Go writes it, rounded up from nanoseconds to our clock's microseconds.

    Up, so that what came later never looks earlier.
    """
    return dt.datetime.fromisoformat(text) + dt.timedelta(microseconds=1)


async def rotate(plan: ServerPlan, host: ServerHost) -> None:
    """Has the server load the credential files, and looks over the wire that it serves them."""
    await reload(plan, host)
    path = host.placement.credentials(plan.resource) / CERTIFICATE
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while True:
                async with operator(plan, host) as session:
                    served = session.served_certificate
                if served == _leaf(path):
                    return
                await asyncio.sleep(POLL_SECONDS)
    except TimeoutError as late:
        raise ReloadFailed(plan.resource, "it serves another certificate than its file") from late


def _leaf(path: Path) -> bytes:
    """The first certificate of a PEM chain, as DER."""
    end = "-----END CERTIFICATE-----"
    return ssl.PEM_cert_to_DER_cert(path.read_text("ascii").partition(end)[0] + end)
