"""CORS at the real gateway: what a page in a browser can read, the gateway's refusals among it."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.dataplane.compile.test_gateway_manners import HOST, Outside, Seen, outside
from tests.dataplane.compile.test_gateway_runs import ISSUER, token
from watertight.model.system import (
    Cors,
    Gateway,
    Issuer,
    Limit,
    Listen,
    Per,
    Protocol,
    Requirement,
    Route,
    Service,
    System,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

APP = "https://app.example"
PAGES = Cors((APP, "http://localhost:5173"), headers=("authorization", "x-csrf-token"))
TOKEN = Requirement("main", ("orders:read",))
SHOP = System(
    "shop.internal",
    services={"web": Service("web", listens=Listen(Protocol.HTTP, 1))},
    gateway=Gateway(
        HOST,
        (
            Route("/orders/*", "web", ("GET", "DELETE"), require=TOKEN, cors=PAGES),
            Route("/orders/*", "web", ("PUT",), require=TOKEN),
            Route("/counted", "web", limit=Limit(Per.ADDRESS, 1, 3600), cors=PAGES),
            Route("/upload", "web", ("POST",), cors=PAGES),
            Route("/slow/*", "web", timeout_seconds=0.3, cors=PAGES),
            Route("/cookies", "web", cors=Cors((APP,), credentials=True)),
            Route("/public", "web", cors=Cors(("*",))),
            Route("/own/**", "web", ("GET", "OPTIONS")),
        ),
        issuers={"main": Issuer("main", ISSUER, ("shop",), "jwks.json")},
        max_request_bytes=10_000,
    ),
)
NEVER = ("https://evil.example", f"{APP}.evil.example", "https://evilapp.example", "null", "")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def client() -> AsyncIterator[Outside]:
    async with outside(SHOP) as running:
        yield running


async def preflight(client: Outside, path: str, method: str, origin: str = APP) -> Seen:
    asks = (f"Origin: {origin}", f"Access-Control-Request-Method: {method}")
    return await client.get(path, *asks, method="OPTIONS")


def told(seen: Seen) -> tuple[int, str | None]:
    """The status, and who may read it."""
    return seen.status, seen.headers.get("access-control-allow-origin")


async def test_a_preflight_needs_no_token_and_reaches_no_service(client: Outside) -> None:
    seen = await preflight(client, "/orders/1", "DELETE")
    assert (told(seen), seen.asked) == ((200, APP), [])
    assert seen.headers["access-control-allow-methods"] == "GET, DELETE"
    assert seen.headers["access-control-allow-headers"] == "authorization, x-csrf-token"
    assert seen.headers["access-control-max-age"] == "600"
    assert "access-control-allow-credentials" not in seen.headers
    with_cookies = await preflight(client, "/cookies", "GET")
    assert with_cookies.headers["access-control-allow-credentials"] == "true"


async def test_a_preflight_for_what_is_not_declared_allows_no_more(client: Outside) -> None:
    seen = await preflight(client, "/orders/1", "PATCH")
    assert (told(seen), seen.asked) == ((405, APP), [])
    assert "access-control-allow-methods" not in seen.headers
    assert told(await preflight(client, "/orders/1", "PATCH", NEVER[0])) == (405, None)
    assert told(await preflight(client, "/nowhere", "GET"))[1] is None


@pytest.mark.parametrize("origin", NEVER)
async def test_other_pages_read_nothing(client: Outside, origin: str) -> None:
    seen = await preflight(client, "/orders/1", "GET", origin)
    assert (told(seen), seen.asked) == ((403, None), [])
    refusal = await client.get("/orders/1", f"Origin: {origin}")
    assert told(refusal) == (401, None)
    assert not [name for name in refusal.headers if name.startswith("access-control")]
    assert "origin" in refusal.headers["vary"].lower()
    assert told(await client.get("/cookies", f"Origin: {origin}")) == (200, None)


async def test_the_gateways_own_refusals_are_read(client: Outside) -> None:
    page = f"Origin: {APP}"
    bearer = f"Authorization: Bearer {token(scope='other')}"
    await client.get("/counted")
    large = f"POST /upload HTTP/1.1\r\nHost: {HOST}\r\n{page}\r\nContent-Length: 10001\r\n\r\n"
    seen = {
        401: await client.get("/orders/1", page),
        403: await client.get("/orders/1", page, bearer),
        405: await client.get("/orders/1", page, method="POST"),
        413: Seen(await client.raw(large + "x" * 10_001)),
        429: await client.get("/counted", page),
        504: await client.get("/slow/2", page),
    }
    assert {status: told(answer) for status, answer in seen.items()} == {
        status: (status, APP) for status in seen
    }
    for answer in seen.values():
        assert answer.headers["access-control-expose-headers"] == "retry-after, www-authenticate"
        assert "origin" in answer.headers["vary"].lower()
    assert "www-authenticate" in seen[401].headers
    assert "retry-after" in seen[429].headers


async def test_an_absent_service_is_read_too() -> None:
    async with outside(SHOP) as client:
        await client.mesh.envoys["web"].stop()
        async with asyncio.timeout(60):
            assert told(await client.get("/public", f"Origin: {APP}")) == (503, APP)


async def test_answers_are_for_named_pages_whatever_the_app_says(client: Outside) -> None:
    good = f"Authorization: Bearer {token()}"
    assert told(await client.get("/orders/1", f"Origin: {APP}", good)) == (200, APP)
    local = "http://localhost:5173"
    assert told(await client.get("/orders/1", f"Origin: {local}", good)) == (200, local)
    assert told(await client.get("/orders/1", good)) == (200, None)
    anybody = await client.get("/public", "Origin: https://any.example")
    assert told(anybody) == (200, "https://any.example")
    assert "access-control-allow-credentials" not in anybody.headers


async def test_without_cors_the_app_answers_for_itself(client: Outside) -> None:
    seen = await preflight(client, "/own/x", "GET")
    assert (seen.method, seen.said("origin")) == ("OPTIONS", APP)
    assert told(seen) == (200, None)
