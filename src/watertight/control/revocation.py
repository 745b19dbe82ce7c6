"""Revoking an identity: its sessions end, and it gets no new ones."""

import asyncio
import time
from collections.abc import Awaitable
from pathlib import Path

from watertight.control.plane import ControlPlane
from watertight.control.servers import want
from watertight.dataplane.admin import ProxyUnreachable, connections
from watertight.enforcers.contract import Cut
from watertight.errors import MachineRefused, WatertightError
from watertight.identity.errors import NotWrittenDown
from watertight.model.system import GATEWAY


async def revoke(plane: ControlPlane, workload: str) -> Cut:
    """Distrusts a workload; returns when every proxy and every server has acknowledged that.

    Its doors at its callees are removed, which cuts its live connections (docs/adr/0001); so are
    its own doors, its SVID, and whatever it could ask the authority for: at once, also while
    another change is under way, and where it cannot be written down. The seconds told are those
    until then. Databases and brokers take its role away behind that. Raises NoSuchWorkload, and
    WatertightError if not all could be done.
    """
    plane.require(workload)
    sessions = await _live_sessions(plane, workload)
    began = time.monotonic()
    _distrust(plane, workload)
    wrong = await _failed(plane.deployment.cut(workload))
    seconds = time.monotonic() - began
    async with plane.changing.by(f"revoke of {workload}"):
        unwritten = _distrust(plane, workload)  # again: a restore may have come between
        wrong += await _failed(plane.enforce())
        # No door leads to a server any more; now the servers themselves forget who it was.
        wrong += await _failed(_revoke_at_servers(plane, workload))
        wrong += await _failed(plane.enforce_at_servers())
        unwritten = unwritten and _distrust(plane, workload)  # room may have come meanwhile
    if unwritten is not None and not wrong:
        raise WatertightError(
            f"{workload} is revoked, and cut: its connections have ended, and it gets no identity "
            f"any more. But {_not_written(unwritten)}",
            remedy="It is written down by itself once there is room on the disk of .watertight; "
            f"`watertight revoke {workload}` says whether it is. `watertight restart {workload}` "
            "frees what its program holds in files that have no name any more.",
        )
    if unwritten is not None:
        wrong.insert(0, WatertightError(_not_written(unwritten)))
    if wrong:
        raise WatertightError(
            f"{workload} is revoked: it gets no identity any more. But not all is done: "
            + " ".join(dict.fromkeys(error.message for error in wrong)),
            remedy=f"What else there was to do is done. `watertight status` says what is left; "
            f"`watertight revoke {workload}` tries it again.",
        )
    return Cut(plane.declared.spiffe_id(workload), sessions, seconds)


def _distrust(plane: ControlPlane, workload: str) -> NotWrittenDown | None:
    """Nothing trusts it from now on; returns why that is not written down, if it is not."""
    try:
        plane.keeper.revoke(workload)
    except NotWrittenDown as error:
        return error
    return None


def _not_written(why: NotWrittenDown) -> str:
    if why.forgotten:
        return (
            f"it is not written down ({why.reason}): it lasts as long as this control process runs."
        )
    return f"the audit log has no line of it yet ({why.reason})."


async def _revoke_at_servers(plane: ControlPlane, workload: str) -> None:
    await plane.servers.revoke(want(plane.effective, plane.placement), workload)


async def _failed(step: Awaitable[object]) -> list[WatertightError]:
    """What one step says; those after it are done all the same."""
    try:
        await step
    except WatertightError as error:
        return [error]
    except OSError as error:
        return [MachineRefused(error)]
    return []


async def restore(plane: ControlPlane, workload: str) -> bool:
    """Trusts a revoked workload again, with a new SVID; returns whether it was revoked.

    Does the same for one that was not: what an earlier restore left undone is done then. Raises
    NoSuchWorkload.
    """
    plane.require(workload)
    async with plane.changing.by(f"restore of {workload}"):
        was_revoked = workload in plane.revoked
        plane.keeper.restore(workload)
        plane.deployment.allow(workload)
        await plane.keeper.refresh()
        plane.secrets.push()
        await plane.enforce()
        wrong = await _failed(plane.enforce_at_servers())
        await plane.secrets_in_force()
    if wrong:
        raise WatertightError(
            f"{workload} is trusted again. But not all is done: {wrong[0].message}",
            remedy=wrong[0].remedy,
        )
    return was_revoked


async def _live_sessions(plane: ControlPlane, workload: str) -> int:
    """How many connections with the workload are open now: at its callees' doors, and at its own.

    Each WebSocket has one of its own; calls of gRPC share one.
    """
    placement, system = plane.placement, plane.effective
    callees = {channel.target for channel in system.outgoing(workload)}
    callers = {channel.source for channel in system.incoming(workload)}
    if workload == GATEWAY and system.gateway is not None:
        callees |= {route.target for route in system.gateway.routes}
    elif system.routes_to(workload):
        callers.add(GATEWAY)
    doors = {callee: [placement.door(callee, workload)] for callee in callees}
    doors[workload] = [placement.door(workload, caller) for caller in callers]

    async def sessions(callee: str, at: list[Path]) -> int:
        try:
            return await connections(placement.admin_socket(callee), at)
        except ProxyUnreachable:
            return 0

    return sum(await asyncio.gather(*(sessions(*one) for one in doors.items() if one[1])))
