"""Identities as files, for software that reads files: kept current, and reloaded."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NoReturn, TypeAlias

import structlog

from watertight.errors import WatertightError
from watertight.identity.clock import Clock, system_clock
from watertight.identity.credential_files import CredentialFiles, Owner
from watertight.identity.entitlement import Entitlement
from watertight.identity.reload import ReloadHook, reload
from watertight.identity.source import IdentitySource

log = structlog.get_logger(__name__)

_LONGEST_PAUSE_SECONDS = 60

Hook: TypeAlias = ReloadHook | Callable[[], Awaitable[None]]
"""A command, or a function of ours that raises WatertightError if the software did not reload."""


class FileDelivery:
    """Keeps the files of one workload current, and has its software read them.

    See :class:`CredentialFiles` for what stands where. A workload whose identity is revoked loses
    its files; one that merely waits for its next SVID keeps the ones it has, also over a restart.
    """

    def __init__(
        self,
        source: IdentitySource,
        workload: str,
        directory: Path,
        hook: Hook | None = None,
        owner: Owner | None = None,
        *,
        now: Clock = system_clock,
    ) -> None:
        self._source = source
        self._workload = workload
        self._entitlement = Entitlement(source, workload, now)
        self._files = CredentialFiles(directory, owner)
        self._hook = hook
        # Also at first: the run before may have ended between the files and the reload.
        self._reload_due = True
        self._settling = asyncio.Lock()
        self.failure: WatertightError | None = None
        """Why the last attempt failed; None if all is well. It is tried again until it is."""

    async def deliver(self) -> bool:
        """Puts the present SVID and bundle in place, without a reload; False if there is none.

        Raises :class:`DeliveryError`; then the old files still stand.
        """
        async with self._settling:
            return await self._deliver()

    async def _deliver(self) -> bool:
        svid = self._entitlement.svid()
        if svid is None:
            if self._entitlement.has_been_met and self._entitlement.is_lost():
                await self.withdraw()
            return False
        bundle = self._source.bundle()
        if await asyncio.to_thread(self._files.put, svid, bundle):
            self._reload_due = True
            log.info("identity.files.delivered", workload=self._workload, expires=svid.expires_at)
        return True

    async def withdraw(self) -> None:
        """Takes the files away; raises :class:`DeliveryError` if they cannot be."""
        await asyncio.to_thread(self._files.remove)
        log.info("identity.files.withdrawn", workload=self._workload)

    async def settle(self) -> bool:
        """Delivers, and reloads if that is due, now; False if there is no SVID.

        Raises :class:`DeliveryError`, or what the hook raises.
        """
        async with self._settling:
            if not await self._deliver():
                return False
            if self._reload_due and self._hook is not None:
                if isinstance(self._hook, ReloadHook):
                    await reload(self._hook)
                else:
                    await self._hook()
                self._reload_due = False
            return True

    async def run(self) -> NoReturn:
        """Delivers and reloads now and after each change; tries again, with pauses, what failed."""
        failures = 0
        while True:
            version = self._source.version
            await self._attempt()
            failures = failures + 1 if self.failure else 0
            pause = min(2 ** (failures - 1), _LONGEST_PAUSE_SECONDS) if failures else None
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._source.changed(version)

    async def _attempt(self) -> None:
        try:
            await self.settle()
        except WatertightError as error:
            log.error("identity.files.failed", workload=self._workload, reason=str(error))
            self.failure = error
        else:
            self.failure = None
