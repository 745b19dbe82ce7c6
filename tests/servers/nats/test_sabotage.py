"""Every probe bites: each weakening of the running server turns exactly the right ones red."""

import asyncio
import ssl
import warnings
from collections import Counter
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager

import pytest
import pytest_asyncio

from tests.rig import SANDBOXED, Rig, not_held, running_server
from tests.servers.nats.sabotages import SABOTAGES, USES, Sabotage
from tests.servers.nats.shop import OLD_SHOP, SHOP
from watertight.attack.probe import Verdict
from watertight.identity.workload_api.splice import Stream, splice
from watertight.servers.nats.compile import CONFIGURATION
from watertight.servers.nats.operator import operator
from watertight.servers.nats.server import NATS

pytestmark = pytest.mark.asyncio(loop_scope="module")

SLOW = ("sessions.",)
"""Seconds each: run only where they must break."""
FEW = 4
ELSEWHERE = frozenset({"tls.version-1.1"})


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def rig() -> AsyncIterator[Rig]:
    async with running_server(NATS(), SHOP) as running:
        yield running


async def test_all_probes_hold_on_the_server_as_it_is_compiled(rig: Rig) -> None:
    results = await rig.run(rig.probes)
    assert not_held(results) == {}
    assert len(results) >= 500


async def test_all_probes_hold_on_an_older_server() -> None:
    async with running_server(NATS(), OLD_SHOP) as old:
        results = await old.run(old.probes)
        assert not_held(results) == {}
        assert len(results) >= 500


@asynccontextmanager
async def weakened(rig: Rig, sabotage: Sabotage) -> AsyncIterator[None]:
    """By a restart: some weakenings cannot be loaded, and some shut our operator out."""
    await rig.host.write({CONFIGURATION: sabotage.weaken(rig.plan.files[CONFIGURATION])})
    try:
        await restart(rig)
        yield
    finally:
        await rig.host.write(rig.plan.files)
        await restart(rig)


async def restart(rig: Rig) -> None:
    await rig.host.stop()
    await rig.host.start()


async def broken(rig: Rig, kind: str, sabotage: Sabotage) -> set[str]:
    """The ids of what breaks among the probes of one kind; of what must hold, a few each."""
    probes = []
    seen: Counter[str] = Counter()
    for probe in rig.probes:
        if probe.kind == kind and probe.channel == sabotage.channel:
            seen[probe.id] += 1
            few = seen[probe.id] <= FEW and not probe.id.startswith(SLOW)
            if few or probe.id in sabotage.breaks:
                probes.append(probe)
    return {r.id for r in await rig.run(probes) if r.verdict is Verdict.BROKEN}


@pytest.mark.parametrize("sabotage", SABOTAGES, ids=lambda s: s.name)
async def test_a_weakened_server_lets_exactly_these_attacks_in(
    rig: Rig, sabotage: Sabotage
) -> None:
    async with weakened(rig, sabotage):
        assert await broken(rig, "attack", sabotage) == sabotage.breaks


@pytest.mark.parametrize("sabotage", USES, ids=lambda s: s.name)
async def test_a_server_that_grants_too_little_fails_exactly_these_uses(
    rig: Rig, sabotage: Sabotage
) -> None:
    async with weakened(rig, sabotage):
        assert await broken(rig, "use", sabotage) == sabotage.breaks


async def test_a_missing_consumer_fails_its_use(rig: Rig) -> None:
    async with operator(rig.plan, rig.host) as session:
        await session.ask("$JS.API.CONSUMER.DELETE.ORDERS.mailer")
    try:
        (use,) = [p for p in rig.probes if p.id == "use.consume" and "mailer" in p.channel]
        (result,) = await rig.run([use])
        assert result.verdict is Verdict.BROKEN, result
    finally:
        await rig.enforcer.apply(rig.plan, rig.host)


async def test_an_old_tls_in_front_of_the_server_is_found(rig: Rig) -> None:
    """nats-server itself cannot be brought to speak TLS 1.1."""
    probes = [
        p for p in rig.probes if p.id == "tls.version-1.1" and p.channel == "orders -> events"
    ]
    async with terminator(rig, "orders"):
        (result,) = await rig.run(probes)
    assert result.verdict is Verdict.BROKEN, result


@asynccontextmanager
async def terminator(rig: Rig, service: str) -> AsyncIterator[None]:
    """In place of a service's door: takes TLS 1.1, and is that service to the server."""
    door = rig.host.placement.door(rig.resource, service)
    credentials = rig.host.placement.credentials(service)
    lax = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    lax.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        lax.minimum_version = ssl.TLSVersion.TLSv1_1
    strict = ssl.create_default_context(cafile=str(credentials / "bundle.pem"))
    for context in (lax, strict):
        context.load_cert_chain(credentials / "certificate.pem", credentials / "private_key.pem")

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner = await asyncio.open_connection(
            "127.0.0.1", rig.host.port, ssl=strict, server_hostname=rig.resource
        )
        await splice(Stream(reader, writer), Stream(*inner))

    aside = door.with_suffix(".aside")
    door.rename(aside)
    try:
        async with await asyncio.start_unix_server(carry, door, ssl=lax):
            yield
    finally:
        aside.rename(door)


async def test_every_probe_has_a_sabotage_test(rig: Rig) -> None:
    tried = {probe for sabotage in (*SABOTAGES, *USES) for probe in sabotage.breaks} | ELSEWHERE
    every: Collection[str] = {probe.id for probe in rig.enforcer.probes(rig.system)}
    assert tried == {probe for probe in every if not probe.startswith(SANDBOXED)}
