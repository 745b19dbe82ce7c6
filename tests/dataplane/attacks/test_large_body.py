"""A body too large is announced in full, and sent only as far as a proof can afford."""

from tests.mesh import running_mesh
from tests.verify.live import arena_over
from watertight.attack.probe import Verdict
from watertight.dataplane.attacks.gateway import probes
from watertight.model.system import Gateway, Listen, Protocol, Route, Service, System
from watertight.verify.prover import prove

LARGEST_BYTES = 4 * 1_073_741_824 - 1
"""What a declaration may say (``just under 4GiB``)."""

SYSTEM = System(
    "shop.test",
    {"storefront": Service("storefront", listens=Listen(Protocol.HTTP, 8000))},
    gateway=Gateway(
        "shop.example",
        (Route("/", "storefront", methods=("POST",)),),
        max_request_bytes=LARGEST_BYTES,
    ),
)


async def test_the_largest_limit_is_proven_without_sending_as_much() -> None:
    async with running_mesh(SYSTEM) as mesh, arena_over(mesh) as arena:
        tried = [p for p in probes(mesh.system) if p.id == "gateway.large-body"]
        (held,) = (await prove(arena, tried)).results
    assert held.verdict is Verdict.HELD, held
