"""What ``explain`` says of a path is what real Envoys do with it: from outside, by HTTP/1 and
HTTP/2, and between services."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.mesh import Mesh, running_mesh
from watertight.attack.http import Answer, Headers, exchange, request_bytes
from watertight.attack.http2 import connect
from watertight.attack.tls import Hello, handshake
from watertight.attack.wire import Wire, dial_tcp
from watertight.model.decide import decide
from watertight.model.system import (
    GATEWAY,
    OUTSIDE,
    Channel,
    Gateway,
    HTTPGrant,
    Listen,
    Position,
    Protocol,
    Route,
    Service,
    System,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

HOST = "shop.example"
TIMEOUT_SECONDS = 30.0
PATHS = (
    ("/orders/{id}:cancel", "/r0/{id}"),
    ("/orders/*", "/r1/*"),
    ("/files/{name}.json", "/r2/{name}/x"),
    ("/v{version}/@{user}/**", "/r3/{version}/{user}-/**"),
    ("/admin/**", "/r4/**"),
    ("/plain", "/r5"),
    ("/a:b", "/r6"),
    ("/open/{first}/{rest}", "/r7/{first}/x{rest}"),
)
SYSTEM = System(
    "shop.internal",
    services={
        "front": Service("front", listens=Listen(Protocol.HTTP, 1)),
        "web": Service("web", listens=Listen(Protocol.HTTP, 2)),
    },
    channels=(Channel("front", "web", tuple(HTTPGrant("GET", path) for path, _ in PATHS)),),
    gateway=Gateway(
        HOST,
        tuple(
            Route(path, "web", rewrite=seen, at=Position("watertight.yaml", number, 1))
            for number, (path, seen) in enumerate(PATHS)
        ),
    ),
)

CLIENTS_WRITE = "\"<>[]{}|^`'\\~"
"""Beyond RFC 3986: what browsers, curl and HTTP libraries leave in a path as it was given."""
parts = (
    st.sampled_from(["orders", "files", "v1", "@bob", "admin", "plain", "a:b", "open", "v"])
    | st.sampled_from(["1:cancel", "1%3Acancel", "1%3acancel", ":cancel", "x.json", "x%2ejson"])
    | st.sampled_from(["", ".", "..", "%2e%2e", ".json", "%40bob", "a%3ab", "%61:b", "x%40json"])
    | st.sampled_from(["..;", "a%2Fb", "a%5cb", "%00", "a%20b", "é", "a#b", "%", "%zz", "%C3%A9"])
    | st.text(alphabet=f"{CLIENTS_WRITE}:@;,1a.%", min_size=1, max_size=5)
)
paths = st.lists(parts, min_size=1, max_size=4).map(lambda found: "/" + "/".join(found))
queries = st.sampled_from(["", "", "?", "?a=[1]&b=/../x", "?{|}"])


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def mesh() -> AsyncIterator[Mesh]:
    async with running_mesh(SYSTEM) as running:
        yield running


async def tls(mesh: Mesh, protocol: str) -> Wire:
    assert mesh.system.gateway is not None
    wire = await dial_tcp("127.0.0.1", mesh.system.gateway.port)
    hello = Hello(versions=(ssl.TLSVersion.TLSv1_3,) * 2, alpn=(protocol,), server_name=HOST)
    return await handshake(wire, hello, timeout_seconds=TIMEOUT_SECONDS)


async def by_http1(wire: Wire, path: str, host: str) -> Answer:
    fields: Headers = [("host", host), ("connection", "close")]
    raw = request_bytes("GET", path.encode().decode("latin-1"), fields)
    try:
        got = await exchange(wire, raw, ["GET"], timeout_seconds=TIMEOUT_SECONDS)
    finally:
        await wire.close()
    return got.answers[0]


async def by_http2(wire: Wire, path: str) -> Answer:
    connection = await connect(wire, timeout_seconds=TIMEOUT_SECONDS)
    try:
        return await connection.request("GET", path, authority=HOST)
    finally:
        await wire.close()


def taken_by(answer: Answer) -> int | None:
    """The number of the route whose rewrite the app saw; None if it saw nothing."""
    if answer.status != 200:
        assert answer.status in {400, 403, 404}, answer
        return None
    return int(json.loads(answer.body)["path"][2])


def all_paths(count: int) -> settings:
    return settings(
        max_examples=count,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )


@all_paths(40)
@given(path=paths, query=queries)
@example(path='/orders/[1]{2}|3^4`5"6<7>', query="")
@example(path="/admin/[x]", query="?[y]")
@example(path="/orders/1:cancel", query="")
@example(path="/orders/%zz:cancel", query="")
@example(path="/v1/@bob/[a]/{b}", query="?q")
@example(path="/orders/é", query="")
@example(path="/admin/a%2Fb/..;", query="")
async def test_explain_says_what_happens(mesh: Mesh, path: str, query: str) -> None:
    await compare(mesh, path, query)


@pytest.mark.slow
@pytest.mark.timeout(600)
@all_paths(1500)
@given(path=paths, query=queries)
async def test_explain_says_what_happens_to_many(mesh: Mesh, path: str, query: str) -> None:
    await compare(mesh, path, query)


async def compare(mesh: Mesh, path: str, query: str) -> None:
    asked = path + query
    decision = decide(SYSTEM, OUTSIDE, GATEWAY, "GET", asked)
    expected = decision.at.line if decision.allowed and decision.at else None
    first, second = await asyncio.gather(
        by_http1(await tls(mesh, "http/1.1"), asked, HOST),
        by_http2(await tls(mesh, "h2"), asked),
    )
    # What is not ASCII is no path in HTTP/1; in HTTP/2, Envoy escapes it as browsers do.
    told = expected if asked.isascii() else None
    assert (taken_by(first), taken_by(second)) == (told, expected)

    host, port = mesh.address("front", "web")
    answer = await by_http1(await dial_tcp(host, port), asked, f"web:{port}")
    assert answer.status in {200, 400, 403}
    allowed = decide(SYSTEM, "front", "web", "GET", asked).allowed
    assert (answer.status == 200) == (allowed and asked.isascii())
