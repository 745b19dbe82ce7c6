"""One caller fills a stream with connections: a limit for each door leaves room at the others."""

from tests.dataplane.attacks.weaken import Json, cluster, listener, together
from tests.dataplane.attacks.weakenings import few_connections
from tests.mesh import running_mesh
from tests.verify.live import arena_over
from watertight.attack.probe import Verdict
from watertight.dataplane.attacks import crowd
from watertight.model.system import Channel, Listen, Protocol, Service, System
from watertight.verify.prover import prove

SYSTEM = System(
    trust_domain="crowd.internal",
    services={
        "alice": Service("alice"),
        "mallory": Service("mallory"),
        "stock": Service("stock", listens=Listen(Protocol.TCP, 8085)),
    },
    channels=(Channel("alice", "stock"), Channel("mallory", "stock")),
)
LIMIT = "envoy.filters.network.connection_limit"
DEADLINE_SECONDS = 60.0
TRIES = 5
"""Until it bites: on a busy machine a crowd gathers so slowly that it hinders nobody."""


def narrow(body: Json) -> None:
    """Listener: fewer connections at this door than a proxy has for all."""
    (limit,) = (f for f in body["filter_chains"][0]["filters"] if f["name"] == LIMIT)
    limit["typed_config"]["max_connections"] = 20


async def test_the_limit_of_a_door_leaves_room_at_the_others() -> None:
    all_share = cluster("stock", "app", few_connections)
    async with running_mesh(SYSTEM) as mesh, arena_over(mesh) as arena:
        (probe,) = (p for p in crowd.probes(mesh.system) if p.channel == "mallory -> stock")
        assert "while alice asks" in probe.attempt
        for weakened, verdict, tries in (
            (all_share, Verdict.BROKEN, TRIES),
            (together(all_share, listener("stock", "in|mallory", narrow)), Verdict.HELD, 1),
        ):
            async with mesh.sabotage(weakened):
                for _ in range(tries):
                    proof = await prove(arena, [probe], deadline_seconds_per_probe=DEADLINE_SECONDS)
                    if proof.results[0].verdict is verdict:
                        break
            assert proof.results[0].verdict is verdict, proof.results[0]
