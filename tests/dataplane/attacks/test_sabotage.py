"""Every probe bites: each weakening of the running mesh turns exactly the right ones red."""

import logging
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.dataplane.attacks.range import SANDBOXED, Range, firing_range, not_held
from tests.dataplane.attacks.raw import DESYNC_SABOTAGES
from tests.dataplane.attacks.sabotages import AT_ONCE, SABOTAGES, Sabotage
from tests.dataplane.attacks.shop import SHOP
from tests.dataplane.attacks.test_roots import ROOT_SABOTAGES
from tests.dataplane.attacks.test_rpc import RPC_SABOTAGES
from tests.dataplane.attacks.test_sandbox import SANDBOX_SABOTAGES
from tests.dataplane.attacks.test_unread import UNREAD_SABOTAGES
from tests.dataplane.attacks.test_wholeness import WHOLENESS_SABOTAGES
from watertight.attack.probe import Probe, Verdict
from watertight.dataplane.attacks import envoy_probes

log = logging.getLogger(__name__)
pytestmark = pytest.mark.asyncio(loop_scope="module")

SLOW = ("sessions.silent", "exhaust.access-log")
"""Seconds each: run only where they must break."""
DEADLINE_SECONDS = 30.0
MIN_ROUNDS = 3
"""On a busy host one round, with what it waits for, may take longer than the deadline."""
ELSEWHERE = (
    frozenset({"gateway.certificate", "reach.name"})
    | DESYNC_SABOTAGES
    | ROOT_SABOTAGES
    | RPC_SABOTAGES
    | UNREAD_SABOTAGES
    | WHOLENESS_SABOTAGES
)
"""Probes with a sabotage test of their own, below or in files of their own; not run elsewhere."""


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def target() -> AsyncIterator[Range]:
    async with firing_range() as running:
        yield running


async def test_all_probes_hold_on_the_mesh_as_it_is_compiled(target: Range) -> None:
    results = await target.run(target.probes)
    assert not_held(results) == {}
    assert len(results) >= 150


ONE_BY_ONE = [pytest.param(s, marks=pytest.mark.slow) for s in SABOTAGES if s not in AT_ONCE]


@pytest.mark.parametrize("sabotage", [*AT_ONCE, *ONE_BY_ONE], ids=lambda s: s.name)
async def test_a_weakened_mesh_turns_exactly_these_probes_red(
    target: Range, sabotage: Sabotage
) -> None:
    probes = [p for p in target.probes if p.channel in sabotage.channels and _wanted(p, sabotage)]
    async with target.mesh.sabotage(sabotage.weaken(target.live)):
        broken = await broken_among(target, probes, sabotage.breaks, sabotage.felt)
        assert broken == sabotage.breaks
    mended = [p for p in probes if p.id in sabotage.breaks]
    assert await broken_among(target, mended, frozenset()) == set()


async def test_a_certificate_for_another_name_is_no_certificate(target: Range) -> None:
    probes = [p for p in target.probes if p.id == "gateway.certificate"]
    svid = target.mesh.identities.x509_svid("storefront")
    assert svid is not None
    certificate = {
        "certificate_chain": {"inline_string": svid.chain_pem().decode()},
        "private_key": {"inline_string": svid.private_key_pem().decode()},
    }
    right = target.mesh.gateway_certificate
    target.mesh.gateway_certificate = {"tls_certificate": certificate}
    try:
        await target.mesh.push(target.mesh.plan)
        (result,) = await target.run(probes)
        assert result.verdict is Verdict.BROKEN, result
    finally:
        target.mesh.gateway_certificate = right
        await target.mesh.push(target.mesh.plan)


async def test_every_probe_has_a_sabotage_test() -> None:
    tried = {probe for sabotage in SABOTAGES for probe in sabotage.breaks}
    tried |= ELSEWHERE | SANDBOX_SABOTAGES
    assert tried == {probe.id for probe in envoy_probes(SHOP)}
    assert all(p.startswith(SANDBOXED) or p in ELSEWHERE for p in SANDBOX_SABOTAGES)


def _wanted(probe: Probe, sabotage: Sabotage) -> bool:
    if probe.id in sabotage.breaks:
        return True
    return probe.id not in ELSEWHERE and not probe.id.startswith(SLOW)


async def broken_among(
    target: Range,
    probes: list[Probe],
    expected: frozenset[str],
    felt: frozenset[str] = frozenset(),
) -> set[str]:
    """The ids of what breaks, but for ``felt``; tried again until it is what must, for listeners
    warm up. What was seen each time stands in the test's report."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    rounds = 0
    while True:
        results = await target.run(probes)
        broken = {r.id for r in results if r.verdict is Verdict.BROKEN} - felt
        rounds += 1
        if broken == expected or (rounds >= MIN_ROUNDS and time.monotonic() > deadline):
            return broken
        log.warning("round %d: %s", rounds, not_held(results))
