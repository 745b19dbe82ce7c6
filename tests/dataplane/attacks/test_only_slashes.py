"""A path of slashes only is no other way to write ``/``; ``explain`` says the same."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import pytest_asyncio

from tests.dataplane.attacks.range import not_held
from tests.dataplane.attacks.weaken import routes, together
from tests.dataplane.attacks.weakenings import careless
from tests.mesh import Mesh, running_mesh
from tests.verify.live import arena_over
from watertight.attack.probe import Verdict
from watertight.dataplane.attacks import grants, slashes
from watertight.dataplane.attacks.edge import Edge, ask
from watertight.dataplane.attacks.replies import Nothing
from watertight.model.decide import decide
from watertight.model.system import (
    GATEWAY,
    OUTSIDE,
    Channel,
    Gateway,
    HTTPGrant,
    Listen,
    Protocol,
    Route,
    Service,
    System,
)
from watertight.verify.prover import prove

pytestmark = pytest.mark.asyncio(loop_scope="module")

SYSTEM = System(
    "slashes.internal",
    services={
        "front": Service("front", listens=Listen(Protocol.HTTP, 1)),
        "api": Service("api", listens=Listen(Protocol.HTTP, 2)),
    },
    channels=(Channel("front", "api", (HTTPGrant("GET", "/**"),)),),
    gateway=Gateway(
        "slashes.example",
        (
            Route("/cut/**", "api", rewrite="/**"),
            Route("/**", "api"),
        ),
    ),
)
assert SYSTEM.gateway is not None
KEEPING = replace(
    SYSTEM,
    gateway=replace(
        SYSTEM.gateway,
        routes=(
            Route("/kept/**", "api", rewrite="/**", double_slashes=True),
            *SYSTEM.gateway.routes,
        ),
    ),
)
NOTHING_BELOW = ("//", "///", "/.//", "//.", "/x/..//", "/./////", "//?x", "/%2e//")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def mesh() -> AsyncIterator[Mesh]:
    async with running_mesh(SYSTEM) as running:
        yield running


async def status(mesh: Mesh, path: str) -> int:
    """As it is written: clients of HTTP merge slashes themselves."""
    assert mesh.system.gateway is not None
    answer = await ask(Edge(mesh.system.gateway, "GET", path))
    assert not isinstance(answer, Nothing), answer
    return answer.status


async def test_slashes_only_are_refused(mesh: Mesh) -> None:
    for path in NOTHING_BELOW:
        assert await status(mesh, path) == 400, path
        assert not decide(mesh.system, OUTSIDE, "api", "GET", path).allowed
        assert not decide(mesh.system, "front", "api", "GET", path).allowed
    for path in ("/cut//", "/cut/.//"):
        assert await status(mesh, path) == 404, path
        assert not decide(mesh.system, OUTSIDE, "api", "GET", path).allowed


async def test_a_route_that_keeps_double_slashes_keeps_none_alone() -> None:
    async with running_mesh(KEEPING) as mesh:
        kept = ("/kept//", "/kept///", "/kept//.//")
        for path, refused in (*((p, 400) for p in NOTHING_BELOW), *((p, 404) for p in kept)):
            assert await status(mesh, path) == refused, path
            assert not decide(mesh.system, OUTSIDE, "api", "GET", path).allowed, path
        assert await status(mesh, "/kept//x") == 200


async def test_the_probes_see_a_proxy_that_takes_them(mesh: Mesh) -> None:
    assert mesh.system.gateway is not None
    async with arena_over(mesh) as arena:
        every = (*slashes.probes(mesh.system.gateway), *grants.probes(mesh.system))
        probes = [p for p in every if p.id.endswith(".only-slashes")]
        assert len(probes) >= 8
        assert not_held((await prove(arena, probes)).results) == {}
        weak = together(
            routes(GATEWAY, "https", careless),
            routes("api", f"in|{GATEWAY}", careless),
            routes("api", "in|front", careless),
        )
        async with mesh.sabotage(weak):
            results = (await prove(arena, probes)).results
    broken = {(r.channel, r.attempt) for r in results if r.verdict is Verdict.BROKEN}
    held = {(r.channel, r.attempt): r.observed for r in results if r.verdict is Verdict.HELD}
    assert len(broken) == len(results), held
