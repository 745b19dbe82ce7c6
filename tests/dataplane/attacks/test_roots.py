"""No spelling of ``/`` passes where only ``/**`` is open, at the gateway and between services."""

import asyncio
import json
import posixpath
import re
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import pytest_asyncio
from joserfc.jwk import ECKey

from tests.dataplane.attacks.range import not_held
from tests.dataplane.attacks.weaken import routes, together
from tests.dataplane.attacks.weakenings import careless
from tests.dataplane.compile.test_explained_paths import by_http1, by_http2, tls
from tests.mesh import Mesh, running_mesh
from tests.verify.live import arena_over
from watertight.attack.http import Answer
from watertight.attack.probe import Verdict
from watertight.attack.wire import dial_tcp
from watertight.dataplane.attacks import envoy_probes
from watertight.model.decide import decide
from watertight.model.system import (
    OUTSIDE,
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
from watertight.verify.prover import prove

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROOT_SABOTAGES = frozenset({"gateway.empty-segment", "grants.empty-segment"})
SLASHES_ONLY = frozenset({"gateway.only-slashes", "grants.only-slashes"})
HOST = "shop.example"
KEY = ECKey.generate_key("P-256", {"kid": "one", "alg": "ES256", "use": "sig"})
KEYS = {"main": json.dumps({"keys": [KEY.as_dict(private=False)]})}
MAIN = Requirement("main")
ALL, ROOT = Route("/**", "home"), Route("/", "home")
SYSTEM = System(
    "roots.internal",
    services={
        name: Service(name, listens=Listen(Protocol.HTTP, number))
        for number, name in enumerate(("home", "front", "other"), start=1)
    },
    channels=(
        Channel("front", "home", (HTTPGrant("GET", "/**"),)),
        Channel("other", "home", (HTTPGrant("GET", "/**"), HTTPGrant("GET", "/"))),
        Channel("home", "front", (HTTPGrant("GET", "/files/**"),)),
    ),
    gateway=Gateway(
        HOST,
        (
            replace(ROOT, require=Requirement("main", ("root",))),
            Route("/files/**", "home"),
            replace(ALL, require=MAIN),
        ),
        issuers={"main": Issuer("main", "https://login.roots.example", ("roots",), "jwks.json")},
    ),
)
SAME = ("/", "/.", "/..", "/%2e/", "/./", "/?q", "/a/..", "/%2E%2e?q=//")
"""What is `/` to everybody."""
NEARLY = (
    *("//", "///", "/.//", "/..//", "//.", "/files/..//", "//?q", "/%2F/", "/%2f", "/\\", "/\\/"),
    *("/;", "/;x", "/%3bx", "/;x/", "/;x/;y", "//;x", "/;x?q", "/.;x", "/%2e;/", "/;/..//"),
)
"""What is `/` to some."""
HALVES = (
    *("/a/..json", "/a/...json", "/a/....json", "/a/x.json?q", "/a/..;x.json", "/a/%2e%2e.json"),
    *("/b/x..", "/b/x.", "/b/x;y", "/b/xy", "/c/.:x/y", "/c/.%3Ax/y", "/c/.:x/../..;x"),
)
"""What half a segment may stand for."""
GATEWAYS: dict[str, tuple[tuple[Route, ...], int | None]] = {
    "alone": ((ALL,), 404),
    "guarded before": ((replace(ROOT, require=MAIN), ALL), 401),
    "guarded behind": ((ALL, replace(ROOT, require=MAIN)), 404),
    "open": ((ROOT, ALL), None),
    "rewritten": ((replace(ALL, rewrite="/files/**"),), 404),
    "taken away": ((Route("/files/**", "home", rewrite="/**"),), 404),
    "one segment": ((Route("/*", "home"), Route("/{id}/**", "home")), 404),
    "half a segment": (
        (
            replace(ROOT, require=MAIN),
            Route("/files/", "home", require=MAIN),
            Route("/a/{id}.json", "home", rewrite="/files/{id}"),
            Route("/b/x{id}", "home", rewrite="/{id}"),
            Route("/c/{id}:x/**", "home", rewrite="/.{id}/**"),
        ),
        401,
    ),
    "slashes kept": ((replace(ALL, double_slashes=True, escaped_slashes=True),), 404),
}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def mesh() -> AsyncIterator[Mesh]:
    async with running_mesh(SYSTEM, keys=KEYS) as running:
        yield running


def forgiving(path: str) -> str:
    """As the most forgiving of programs reads a path."""
    plain = re.sub(r"(?i)%2f|\\", "/", path.partition("?")[0])
    bare = re.sub(r"(?i)(;|%3b)[^/]*", "", plain.replace("%2e", "."))
    return posixpath.normpath(re.sub("/+", "/", bare))


def seen(answer: Answer) -> str | None:
    """The path that reached the app."""
    return str(json.loads(answer.body)["path"]) if answer.status == 200 else None


@pytest.mark.parametrize("name", GATEWAYS)
async def test_who_reads_a_path_as_the_root_is_asked_for_what_the_root_demands(
    mesh: Mesh, name: str
) -> None:
    assert mesh.system.gateway is not None
    chosen, status = GATEWAYS[name]
    system = replace(mesh.system, gateway=replace(mesh.system.gateway, routes=chosen))
    paths = [*SAME, *NEARLY, "/files//", "/files/;x", "/files/", *HALVES]
    async with mesh.sabotage(lambda _: mesh.compile(system)):
        for path in paths:
            got = await asyncio.gather(
                by_http1(await tls(mesh, "http/1.1"), path, HOST),
                by_http1(await tls(mesh, "http/1.1"), f"https://{HOST}{path}", HOST),
                by_http2(await tls(mesh, "h2"), path),
            )
            said = decide(system, OUTSIDE, "home", "GET", path)
            assert len({answer.status for answer in got}) == 1, (path, got)
            assert said.allowed is (got[0].status in {200, 401}), (path, said, got)
            if path in SAME:
                assert got[0].status == (status or 200), path
            for reached in filter(None, map(seen, got)):
                assert status is None or forgiving(reached) != "/", (path, reached)
                assert not reached.startswith("//"), path


async def test_between_services_likewise(mesh: Mesh) -> None:
    host, port = mesh.address("front", "home")
    for path in (*SAME, *NEARLY):
        answer = await by_http1(await dial_tcp(host, port), path, f"home:{port}")
        assert answer.status in {400, 403}, path
        assert not decide(mesh.system, "front", "home", "GET", path).allowed, path
    host, port = mesh.address("other", "home")
    for path in (*SAME, "/;x", "/;x?q", "/x//", "/x/;y"):
        answer = await by_http1(await dial_tcp(host, port), path, f"home:{port}")
        assert answer.status == 200, path
        assert decide(mesh.system, "other", "home", "GET", path).allowed, path
    host, port = mesh.address("home", "front")
    for path in ("/files/", "/files//", "/files/;x", "/files/./;x/;y"):
        answer = await by_http1(await dial_tcp(host, port), path, f"front:{port}")
        assert answer.status == 403, path


async def test_the_probes_hold_and_see_what_is_read_carelessly(mesh: Mesh) -> None:
    async with arena_over(mesh, token_keys={"main": KEY.as_dict(private=True)}) as arena:
        ids = {*ROOT_SABOTAGES, *SLASHES_ONLY}
        probes = [p for p in envoy_probes(mesh.system) if p.id in ids]
        assert {p.channel for p in probes} == {
            "outside -> gateway",
            "front -> home",
            "home -> front",
        }
        assert not_held((await prove(arena, probes)).results) == {}
        doors = (routes("home", "in|front", careless), routes("front", "in|home", careless))
        # The gateway's own, and behind it the door that judges again.
        edge = (routes("gateway", "https", careless), routes("home", "in|gateway", careless))
        async with mesh.sabotage(together(*doors, *edge)):
            results = (await prove(arena, probes)).results
    broken = {(r.id, r.channel) for r in results if r.verdict is Verdict.BROKEN}
    assert broken == {(p.id, p.channel) for p in probes}
    assert {identifier for identifier, _ in broken} == ids
