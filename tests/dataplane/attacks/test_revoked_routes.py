"""A route to a revoked service is closed: no route behind it takes its requests."""

from dataclasses import replace

import pytest

from tests.dataplane.attacks.range import not_held
from tests.dataplane.attacks.weaken import routes
from tests.mesh import Mesh, running_mesh
from tests.verify.live import arena_over
from watertight.attack.probe import Verdict
from watertight.dataplane.attacks import gateway
from watertight.dataplane.attacks.edge import Edge, ask
from watertight.dataplane.attacks.replies import Nothing
from watertight.dataplane.compile.blocks import Json
from watertight.model.decide import decide
from watertight.model.system import (
    GATEWAY,
    OUTSIDE,
    Cors,
    Gateway,
    Listen,
    Protocol,
    Route,
    Service,
    System,
)
from watertight.verify.prover import prove

METHODS = ("GET", "POST", "OPTIONS")
PAGE = "https://spa.example"
SYSTEM = System(
    "revoked.internal",
    services={
        "data": Service("data", listens=Listen(Protocol.HTTP, 1)),
        "home": Service("home", listens=Listen(Protocol.HTTP, 2)),
    },
    gateway=Gateway(
        "revoked.example",
        (
            Route("/pages/*", "home", METHODS),
            Route("/notes/{id}", "data", ("GET", "POST"), cors=Cors((PAGE,))),
            Route("/files/**", "data", METHODS),
            Route("/", "data"),
            Route("/**", "home", METHODS),
            Route("/notes/{id}", "data", ("PUT",)),
        ),
    ),
)
REVOKED = SYSTEM.without_identities(frozenset({"data"}))
LED_TO_IT = ("/notes/1", "/files/a/b", "/files/", "/")
ASKS = (("origin", PAGE), ("access-control-request-method", "POST"))


async def status(mesh: Mesh, method: str, path: str, *headers: tuple[str, str]) -> int:
    assert mesh.system.gateway is not None
    answer = await ask(Edge(mesh.system.gateway, method, path, headers=headers))
    assert not isinstance(answer, Nothing), answer
    return answer.status


async def test_no_route_behind_takes_what_led_to_a_revoked_service() -> None:
    async with running_mesh(SYSTEM) as mesh:
        for path in LED_TO_IT:
            assert decide(SYSTEM, OUTSIDE, "data", "GET", path).allowed is (path != "/files/")
        assert await status(mesh, "GET", "/notes/1") == 200
        await mesh.push(mesh.compile(mesh.system.without_identities(frozenset({"data"}))))
        for path in LED_TO_IT:
            assert await status(mesh, "GET", path) == 404, path
            assert not decide(REVOKED, OUTSIDE, GATEWAY, "GET", path).allowed, path
        assert await status(mesh, "OPTIONS", "/notes/1", *ASKS) == 404
        for path in ("/pages/1", "/elsewhere"):
            assert await status(mesh, "GET", path) == 200, path
            assert decide(REVOKED, OUTSIDE, "home", "GET", path).allowed, path


async def test_the_probe_sees_a_route_behind_that_takes_it() -> None:
    async with running_mesh(REVOKED) as mesh, arena_over(mesh) as arena:
        probes = [p for p in gateway.probes(mesh.system) if p.id == "gateway.revoked-route"]
        assert len(probes) == 4
        assert not_held((await prove(arena, probes)).results) == {}
        async with mesh.sabotage(routes(GATEWAY, "https", _forgets_what_was_withheld)):
            results = (await prove(arena, probes)).results
    broken = {r.attempt.split(",")[0] for r in results if r.verdict is Verdict.BROKEN}
    assert any("/notes/" in attempt for attempt in broken)
    assert any("/files/" in attempt for attempt in broken)


def _forgets_what_was_withheld(body: Json) -> None:
    (host,) = [h for h in body["virtual_hosts"] if h["name"] == "declared"]
    host["routes"] = [
        route
        for route in host["routes"]
        if route.get("direct_response", {}).get("status") != 404
        or route["match"] == {"prefix": "/"}
    ]


@pytest.mark.parametrize("order", [("data", "home"), ("home", "data")])
def test_one_after_the_other_is_both_at_once(order: tuple[str, str]) -> None:
    one, other = order
    in_turn = SYSTEM.without_identities(frozenset({one})).without_identities(frozenset({other}))
    at_once = SYSTEM.without_identities(frozenset(order))
    assert in_turn.gateway is not None
    assert in_turn.gateway == at_once.gateway
    assert [route for route, _ in in_turn.gateway.in_order()] == [*_routes()]
    assert replace(at_once, gateway=None) == replace(SYSTEM, gateway=None)


def _routes() -> tuple[Route, ...]:
    assert SYSTEM.gateway is not None
    return SYSTEM.gateway.routes
