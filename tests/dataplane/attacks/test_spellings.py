"""Other spellings of a guarded path reach no open route behind it; ``explain`` says the same."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import pytest_asyncio
from joserfc.jwk import ECKey

from tests.dataplane.attacks.range import not_held
from tests.dataplane.attacks.weaken import Json, routes
from tests.mesh import Mesh, running_mesh
from tests.verify.live import arena_over
from watertight.attack.probe import Verdict
from watertight.dataplane.attacks import slashes
from watertight.model.decide import decide
from watertight.model.system import (
    OUTSIDE,
    Gateway,
    Issuer,
    Listen,
    Protocol,
    Requirement,
    Route,
    Service,
    System,
)
from watertight.verify.prover import prove

pytestmark = pytest.mark.asyncio(loop_scope="module")

KEY = ECKey.generate_key("P-256", {"kid": "one", "alg": "ES256", "use": "sig"})
KEYS = {"main": json.dumps({"keys": [KEY.as_dict(private=False)]})}
MAIN = Requirement("main")
SYSTEM = System(
    "spelt.internal",
    services={"api": Service("api", listens=Listen(Protocol.HTTP, 1))},
    gateway=Gateway(
        "spelt.example",
        (
            Route("/api/admin", "api", require=MAIN),
            Route("/api/users/{id}", "api", ("GET", "POST"), require=MAIN),
            Route("/api/staff/**", "api", require=MAIN),
            Route("/api/**", "api", ("GET", "POST")),
        ),
        issuers={"main": Issuer("main", "https://login.spelt.example", ("spelt",), "jwks.json")},
    ),
)
REFUSED = (
    *("/api/admin/", "/api/admin//", "/api/admin;x", "/api/admin;", "/api/Admin", "/api/ADMIN"),
    *("/api/admin%20", "/api/admin.", "/api/admin%3bx", "/api/admin/;x", "/api/admin/?x=1"),
    *("/api/admin%09", "/api/./ADMIN", "/api/users/7/", "/api/Users/7", "/api/users/7;x/"),
    *("/api/STAFF/x", "/api/staff;x/y", "/api/%61Dmin", "/api/;x/admin", "/api/;/;y/admin"),
)
OPEN = (
    "/api/admins",
    "/api/admin/users",
    "/api/admin-x",
    "/api/users",
    "/api/users/7/x",
    "/api/x/",
)
GUARDED = ("/api/admin", "/api/admin?x", "/api/users/7", "/api/users/x;y", "/api/staff/x")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def mesh() -> AsyncIterator[Mesh]:
    async with running_mesh(SYSTEM, keys=KEYS) as running:
        yield running


async def test_only_the_paths_beside_a_guarded_one_are_open(mesh: Mesh) -> None:
    for paths, status in ((REFUSED, 404), (OPEN, 200), (GUARDED, 401)):
        for path in paths:
            assert (await mesh.outside("GET", path)).status_code == status, path
            said = decide(mesh.system, OUTSIDE, "api", "GET", path)
            assert said.allowed is (status != 404), (path, said)
    # What is guarded for one method is not for another one.
    assert (await mesh.outside("POST", "/api/admin/")).status_code == 200
    assert (await mesh.outside("POST", "/api/users/7/")).status_code == 404


def forgiving(body: Json) -> None:
    """The broader route takes every spelling."""
    (host, _) = body["virtual_hosts"]
    host["routes"] = [
        route
        for route in host["routes"]
        if route.get("direct_response", {}).get("status") != 404
        or "(?i)" not in json.dumps(route["match"])
    ]


async def test_the_probe_sees_a_route_that_forgives(mesh: Mesh) -> None:
    assert mesh.system.gateway is not None
    async with arena_over(mesh, token_keys={"main": KEY.as_dict(private=True)}) as arena:
        probes = [
            p for p in slashes.probes(mesh.system.gateway) if p.id == "gateway.other-spelling"
        ]
        assert len(probes) >= 9
        assert not_held((await prove(arena, probes)).results) == {}
        async with mesh.sabotage(routes("gateway", "https", forgiving)):
            results = (await prove(arena, probes)).results
    assert {r.verdict for r in results} == {Verdict.BROKEN}


async def test_a_token_of_another_kind_does_not_open_them_either() -> None:
    routes = (
        Route("/admin", "api", require=Requirement("main", ("admin",))),
        Route("/open", "api", require=MAIN),
        Route("/**", "api", require=Requirement("main", ("users",))),
    )
    assert SYSTEM.gateway is not None
    system = replace(SYSTEM, gateway=replace(SYSTEM.gateway, routes=routes))
    for path, allowed in (("/Admin", False), ("/admin;x", False), ("/Open", True), ("/x", True)):
        assert decide(system, OUTSIDE, "api", "GET", path).allowed is allowed, path
