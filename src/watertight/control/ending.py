"""Ends a system: what a control process runs, or what one that died left running."""

import asyncio
import contextlib
from collections.abc import Iterable
from pathlib import Path

from watertight.control.order import start_order
from watertight.control.store import RecordUnreadable, Store
from watertight.model.system import System
from watertight.runtime.capabilities import detect
from watertight.runtime.files import STATE_DIRECTORY, own_directory
from watertight.runtime.layout import Layout
from watertight.runtime.lock import only_one
from watertight.runtime.supervisor import STOP_GRACE_SECONDS, Supervisor

SERVER_STOP_SECONDS = 20.0
"""A database writes down what it holds in memory."""


async def stop_in_order(supervisor: Supervisor, declared: System | None) -> None:
    """Ends every pod, callers before their callees, as far as it is known who calls whom."""
    if declared is None:
        await supervisor.stop_all(grace_seconds=SERVER_STOP_SECONDS)
    else:
        for wave in reversed(start_order(declared)):
            await _stop(supervisor, wave)
        await _stop(supervisor, declared.resources, grace_seconds=SERVER_STOP_SECONDS)
        await supervisor.stop_all()


async def _stop(
    supervisor: Supervisor, names: Iterable[str], *, grace_seconds: float = STOP_GRACE_SECONDS
) -> None:
    running = [name for name in names if name in supervisor.pods]
    await asyncio.gather(
        *(supervisor.stop_pod(name, grace_seconds=grace_seconds) for name in running)
    )


async def end_what_is_left(project: Path, runs: Iterable[Path]) -> tuple[str, ...]:
    """Ends what runs in ``runs``, run directories of a folder that no control process holds.

    Returns what was ended, and leaves nothing of it. Raises AlreadyRunningError if somebody does
    hold the folder.
    """
    state = own_directory(project / STATE_DIRECTORY)
    ended: list[str] = []
    with only_one(state):
        declared = None
        with contextlib.suppress(RecordUnreadable):
            declared = Store(state).current()
        capabilities = detect()
        for run in runs:
            own_directory(run / "pods")
            layout = Layout(project / "watertight.yaml", state, run, capabilities)
            supervisor = Supervisor(layout)
            ended += await supervisor.adopt_all()
            await stop_in_order(supervisor, declared)
            ended += await supervisor.sweep()
            supervisor.remove_run_directory()
    return tuple(dict.fromkeys(ended))
