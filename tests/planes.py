"""A whole system in real pods, with its control plane in the test's own process.

    async with sealed(directory / "watertight.yaml") as plane:
        results = await proven(plane)

In the best isolation that whoever runs the test may have; leaving the block ends every process.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from watertight.attack.probe import Probe
from watertight.control.keys import kek_for
from watertight.control.plane import ControlPlane
from watertight.dataplane.binary import envoy_binary
from watertight.enforcers.registry import enforcers
from watertight.identity.authority import Authority
from watertight.identity.hazmat import open_issuer
from watertight.identity.keeper import SVIDKeeper
from watertight.model.load import load_file
from watertight.runtime.capabilities import HostCapabilities, detect
from watertight.runtime.layout import lay_out
from watertight.runtime.pods import Machine
from watertight.verify.arena import LiveArena
from watertight.verify.forge import Forger, Signer
from watertight.verify.prover import prove
from watertight.verify.results import Result

SVID_TTL_SECONDS = 3600


@asynccontextmanager
async def sealed(
    declaration: Path, capabilities: HostCapabilities | None = None
) -> AsyncIterator[ControlPlane]:
    """The declared system, up and sealed, until the block ends.

    ``capabilities``: None means the best that this host has.
    """
    system = load_file(declaration)
    layout = lay_out(declaration, system, capabilities or detect())
    kek = kek_for(layout.state)
    directory = layout.state / "authority"
    with Authority.open_or_create(directory, system.trust_domain, kek=kek) as authority:
        plane = ControlPlane(
            layout,
            SVIDKeeper(authority),
            Machine.here(envoy_binary()),
            svid_ttl_seconds=SVID_TTL_SECONDS,
            say=lambda _: None,
        )
        async with plane.endpoint:
            loops = [
                asyncio.ensure_future(loop)
                for loop in (plane.keeper.run(), plane.secrets.run(), plane.servers.run())
            ]
            try:
                await plane.apply(system)
                yield plane
            finally:
                for loop in loops:
                    loop.cancel()
                await asyncio.gather(*loops, return_exceptions=True)
                await plane.stop()


def probes_of(plane: ControlPlane, kinds: Iterable[str]) -> tuple[Probe, ...]:
    """The probes of these enforcers."""
    return tuple(
        probe
        for kind, enforcer in enforcers().items()
        if kind in kinds
        for probe in enforcer().probes(plane.effective)
    )


@asynccontextmanager
async def arena_of(plane: ControlPlane) -> AsyncIterator[LiveArena]:
    """The running system as ``watertight verify`` touches it."""
    issuer = open_issuer(
        plane.layout.state / "authority", kek=kek_for(plane.layout.state), reason="a test"
    )
    assert isinstance(issuer.private_key, ec.EllipticCurvePrivateKey)
    async with LiveArena(
        plane.effective,
        plane.placement,
        foothold=plane.supervisor.run_inside,
        listening=plane.supervisor.listening,
        forger=Forger(Signer(issuer.certificate, issuer.private_key, issuer.chain)),
        roots=lambda: plane.keeper.bundle().pem(),
    ) as arena:
        yield arena


async def proven(plane: ControlPlane, probes: Sequence[Probe]) -> tuple[Result, ...]:
    """What came of these probes, run as ``watertight verify`` runs them."""
    async with arena_of(plane) as arena:
        return (await prove(arena, probes)).results


async def said_inside(plane: ControlPlane, service: str, *argv: str) -> str:
    """What a program says that runs as the app of ``service``."""
    reader, writer = await plane.supervisor.run_inside(service, argv)
    with contextlib.closing(writer):
        return (await reader.read()).decode()
