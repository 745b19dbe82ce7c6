"""How long until a rotation is seen, and until a revocation is felt, by a client in a pod."""

import time

from bench.clients import Client, DriverFailed
from bench.kinds import NATIVE, RESOURCE
from watertight.control.plane import ControlPlane
from watertight.control.requests import What
from watertight.control.revocation import restore, revoke
from watertight.control.rotation import rotate

WATCH_SECONDS = 30.0
"""How long a client waits to see it."""


async def rotation(plane: ControlPlane, observer: Client) -> dict[str, float]:
    """How many seconds after the order the server shows its new leaf, and all is done.

    The observer connects again and again, and looks at the server's certificate.
    """
    await observer.ask("watch", WATCH_SECONDS)
    began = time.monotonic()
    await rotate(plane, What.LEAF, RESOURCE)
    ended = time.monotonic()
    return {"seen": await _when(observer, "a new certificate") - began, "done": ended - began}


async def revocation(plane: ControlPlane, victim: Client) -> dict[str, float]:
    """How many seconds after the order a service's session is dead, and all is done.

    The victim, a client of the service ``native``, operates without a pause. The service is
    trusted again at the end.
    """
    await victim.ask("live", WATCH_SECONDS)
    began = time.monotonic()
    await revoke(plane, NATIVE)
    ended = time.monotonic()
    try:
        died = await _when(victim, "the end of its session")
    finally:
        await restore(plane, NATIVE)
    return {"seen": died - began, "done": ended - began}


async def _when(client: Client, what: str) -> float:
    at = (await client.answer(WATCH_SECONDS))["at"]
    if at is None:
        raise DriverFailed(f"a client has not seen {what} in {WATCH_SECONDS} s")
    return float(at)
