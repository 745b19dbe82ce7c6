"""The firing range: the shop on real Envoys, an arena over it, and a server that believes all."""

import asyncio
import json
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass

from cryptography.hazmat.primitives.serialization import Encoding
from joserfc.jwk import ECKey

from tests.dataplane.attacks.shop import SHOP
from tests.dataplane.attacks.weakenings import Live
from tests.mesh import Mesh, running_mesh
from tests.verify.live import arena_over
from watertight.attack.probe import Probe, Verdict
from watertight.dataplane.attacks import envoy_probes
from watertight.verify.arena import LiveArena
from watertight.verify.prover import prove
from watertight.verify.results import Result

KEY = ECKey.generate_key("P-256", {"kid": "one", "alg": "ES256", "use": "sig"})
KEYS = {"main": json.dumps({"keys": [KEY.as_dict(private=False)]})}
TWICE = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx-app: believer\r\n\r\nok" * 2

SANDBOXED = ("isolation.", "reach.app-port")
"""Probes that hold only inside a sandbox, which the test mesh has not (test_sandbox.py)."""


@dataclass(frozen=True)
class Range:
    """What the tests shoot at."""

    mesh: Mesh
    arena: LiveArena
    live: Live

    @property
    def probes(self) -> tuple[Probe, ...]:
        """All that can hold without a sandbox."""
        every = envoy_probes(self.mesh.system)
        return tuple(p for p in every if not p.id.startswith(SANDBOXED))

    async def run(self, probes: Collection[Probe]) -> tuple[Result, ...]:
        """What came of these probes."""
        return (await prove(self.arena, probes)).results


@asynccontextmanager
async def firing_range() -> AsyncIterator[Range]:
    """Runs until the block ends."""
    tokens = {"main": KEY.as_dict(private=True)}
    server = await asyncio.start_server(_believe, "127.0.0.1", 0)
    async with (
        server,
        running_mesh(SHOP, keys=KEYS) as mesh,
        arena_over(mesh, token_keys=tokens) as arena,
    ):
        foreign = arena.forger.foreign_authority.public_bytes(Encoding.PEM).decode()
        live = Live(
            mesh.system, arena.roots().decode(), foreign, server.sockets[0].getsockname()[1]
        )
        yield Range(mesh, arena, live)


async def _believe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    if await reader.read(65_536):
        writer.write(TWICE)
    writer.close()


def not_held(results: Collection[Result]) -> dict[str, str]:
    """Probe and channel → verdict and what was seen, of those that did not hold."""
    return {
        f"{r.id} on {r.channel}: {r.attempt}": f"{r.verdict}: {r.observed}"
        for r in results
        if r.verdict is not Verdict.HELD
    }
