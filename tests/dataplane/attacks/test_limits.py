"""A flood outruns its limit at once, however slow the machine or the app behind the gateway."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from tests.dataplane.attacks.weaken import routes
from tests.dataplane.attacks.weakenings import HTTPS, no_limits
from tests.mesh import running_mesh
from tests.verify.live import arena_over
from watertight.attack.http2 import Burst
from watertight.attack.probe import Verdict
from watertight.dataplane.attacks import limits
from watertight.dataplane.attacks.edge import Edge
from watertight.dataplane.attacks.limits import probes
from watertight.model.system import Gateway, Limit, Listen, Per, Protocol, Route, Service, System
from watertight.verify.prover import prove

SLOW = "/slow/1"
"""The app answers this after a second: no client that waits for it comes near the limit."""


def system(limit: Limit) -> System:
    return System(
        "shop.test",
        {"storefront": Service("storefront", listens=Listen(Protocol.HTTP, 8000))},
        gateway=Gateway("shop.example", (Route(SLOW, "storefront", limit=limit),)),
    )


@pytest.mark.parametrize("limit", [Limit(Per.ADDRESS, 20, 1), Limit(Per.ADDRESS, 800, 60)], ids=str)
async def test_a_slow_app_hides_neither_the_limit_nor_its_absence(limit: Limit) -> None:
    await held_and_then_broken(limit)


async def test_a_slow_prober_sends_what_has_refilled_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    send = limits._send

    async def in_two_halves(request: Edge, count: int, flood: Any) -> Sequence[Burst]:
        first = await send(request, count // 2, flood)
        await asyncio.sleep(1.5)
        return [*first, *await send(request, count - count // 2, flood)]

    monkeypatch.setattr(limits, "_send", in_two_halves)
    await held_and_then_broken(Limit(Per.ADDRESS, 20, 1))


async def held_and_then_broken(limit: Limit) -> None:
    """With the limit, and without it."""
    async with running_mesh(system(limit)) as mesh, arena_over(mesh) as arena:
        (held,) = (await prove(arena, probes(mesh.system))).results
        assert held.verdict is Verdict.HELD, held
        async with mesh.sabotage(routes(*HTTPS, no_limits)):
            (broken,) = (await prove(arena, probes(mesh.system))).results
            assert broken.verdict is Verdict.BROKEN, broken
