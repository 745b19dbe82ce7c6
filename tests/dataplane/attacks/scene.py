"""A careless app in a mesh: two callers, two kinds of outsiders, and an arena over all of it."""

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass

from tests.careless import Careless, careless
from tests.dataplane.attacks.range import KEY, KEYS
from tests.mesh import Mesh, running_mesh
from tests.ports import free_port
from tests.verify.live import arena_over
from watertight.attack.probe import Probe
from watertight.dataplane.attacks import desync
from watertight.model.system import (
    Channel,
    Gateway,
    HTTPGrant,
    Issuer,
    Listen,
    Protocol,
    Requirement,
    Route,
    Service,
    System,
)
from watertight.verify.arena import LiveArena
from watertight.verify.prover import prove
from watertight.verify.results import Result

GRANTS = (HTTPGrant("GET", "/public/*"), HTTPGrant("POST", "/public"))
DEADLINE_SECONDS = 120.0


def system(port: int) -> System:
    """Two callers and two kinds of outsiders at one app."""
    return System(
        trust_domain="careless.internal",
        services={
            "alice": Service("alice"),
            "mallory": Service("mallory"),
            "app": Service("app", listens=Listen(Protocol.HTTP, port)),
        },
        channels=(Channel("alice", "app", grants=GRANTS), Channel("mallory", "app", grants=GRANTS)),
        gateway=Gateway(
            hostname="careless.example",
            address="127.0.0.1",
            port=free_port("127.0.0.1"),
            routes=(
                Route("/public/*", "app", ("GET", "POST")),
                Route("/private/*", "app", require=Requirement("main", ("read",))),
            ),
            issuers={"main": Issuer("main", "https://login.example", ("app",), "jwks.json")},
        ),
    )


@dataclass(frozen=True)
class Scene:
    """The mesh around one careless app."""

    mesh: Mesh
    arena: LiveArena
    app: Careless

    async def run(self, probes: Collection[Probe]) -> tuple[Result, ...]:
        proof = await prove(self.arena, probes, deadline_seconds_per_probe=DEADLINE_SECONDS)
        return proof.results

    def probes(self, *ids: str) -> list[Probe]:
        return [p for p in desync.probes(self.mesh.system) if not ids or p.id in ids]


@asynccontextmanager
async def scene(server: str) -> AsyncIterator[Scene]:
    tokens = {"main": KEY.as_dict(private=True)}
    async with (
        careless(server) as app,
        running_mesh(system(app.port), keys=KEYS, apps=False) as mesh,
        arena_over(mesh, token_keys=tokens) as arena,
    ):
        yield Scene(mesh, arena, app)
