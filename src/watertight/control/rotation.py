"""Rotating leaves, the issuer and the root of a running system, without losing a request.

Publish before use: a root is in every proxy's bundle, and acknowledged, before anything is signed
below it; it is taken out only on evidence that nothing lives that still needs it (DESIGN.md
section 7).
"""

import datetime as dt
from dataclasses import dataclass

from watertight.control.plane import ControlPlane
from watertight.control.requests import What
from watertight.identity.retirement import RetirementEvidence
from watertight.identity.slots import Kind, Status


@dataclass(frozen=True, slots=True)
class Rotated:
    """Who has a new SVID, and which roots are gone."""

    workloads: tuple[str, ...]
    retired_roots: tuple[str, ...] = ()


async def rotate(plane: ControlPlane, what: What, workload: str | None = None) -> Rotated:
    """Rotates, and returns when every proxy has acknowledged it.

    Raises ``NoSuchWorkload``, or ``IdentityError`` if something could not be issued: what
    was valid before stays in use then.
    """
    if workload is not None:
        plane.require(workload)
    async with plane.changing.by(f"rotate of {what}"):
        match what:
            case What.LEAF:
                await plane.keeper.reissue(workload)
            case What.ISSUER:
                await plane.keeper.rotate_issuer()
            case What.ROOT:
                sequence = plane.keeper.prepare_root()
                await plane.secrets_in_force()
                await plane.keeper.activate_root(sequence)
        published = plane.keeper.bundle().sequence
        await plane.secrets_in_force()
        retired = await _retire_old_roots(plane, published) if what is What.ROOT else ()
        names = (workload,) if workload else plane.declared.workloads()
        return Rotated(names, retired)


async def _retire_old_roots(plane: ControlPlane, acknowledged: int) -> tuple[str, ...]:
    """Takes the old roots out of every bundle; every proxy has ``acknowledged`` that one."""
    authority = plane.keeper.authority
    evidence = RetirementEvidence(
        live_issuers=plane.keeper.live_issuers(),
        acknowledged_sequence=acknowledged,
        observed_at=dt.datetime.now(dt.UTC),
    )
    old = [
        slot.id
        for slot in authority.status().slots
        if (slot.kind, slot.status) == (Kind.ROOT, Status.OLD)
    ]
    for root in old:
        authority.retire_root(root, evidence)
    plane.keeper.notify()
    await plane.secrets_in_force()
    return tuple(old)
