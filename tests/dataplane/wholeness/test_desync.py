"""One caller's request never becomes another's, at a server that leaves bodies unread.

The attack is run on the whole: an attacker and a victim at one callee, by every path, straight at
the door too, and through the gateway over HTTP/1.1 and HTTP/2.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import httpx
import pytest
import pytest_asyncio

from tests.dataplane.attacks.weaken import editing, together
from tests.dataplane.compile import doors
from tests.dataplane.wholeness.paths import WEBSOCKET, Client, client
from tests.dataplane.wholeness.victims import Seen, unreading
from tests.mesh import Mesh, running_mesh
from tests.ports import free_port
from watertight.dataplane.resources import ResourceType
from watertight.model.system import (
    Channel,
    Gateway,
    HTTPGrant,
    Listen,
    Protocol,
    Route,
    Service,
    System,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

HIDDEN = (
    b"POST /admin HTTP/1.1\r\nHost: web\r\nx-forwarded-client-cert: URI=spiffe://x/root\r\n"
    b"content-length: 0\r\n\r\n"
)
SWALLOWS = b"POST /swallow HTTP/1.1\r\nHost: web\r\ncontent-length: 400\r\n\r\n"
"""Takes the next request on its connection for its own body."""
METHODS = ("GET", "POST", "PUT", "DELETE", "OPTIONS")
ROUNDS = 6


@pytest.fixture(scope="module")
def victim() -> Iterator[tuple[int, Seen]]:
    with unreading() as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def mesh(victim: tuple[int, Seen]) -> AsyncIterator[Mesh]:
    grants = tuple(HTTPGrant(method, "/public/*") for method in (*METHODS, "HEAD"))
    system = System(
        "shop.internal",
        services={
            "web": Service("web", listens=Listen(Protocol.HTTP, victim[0])),
            "attacker": Service("attacker"),
            "bystander": Service("bystander"),
        },
        channels=(Channel("attacker", "web", grants), Channel("bystander", "web")),
        gateway=Gateway(
            "shop.example",
            (Route("/public/*", "web", (*METHODS, "HEAD")),),
            port=free_port("127.0.0.1"),
        ),
    )
    async with running_mesh(system, apps=False) as running:
        yield running


def messages(method: str, hidden: bytes) -> dict[str, bytes]:
    """One request that hides another in its body, in each way of saying where it ends."""
    head = f"{method} /public/x HTTP/1.1\r\nHost: shop.example\r\n".encode()
    length = b"Content-Length: %d\r\n" % len(hidden)
    chunk = b"%x\r\n%b\r\n0\r\n\r\n" % (len(hidden), hidden)
    return {
        "length": head + length + b"\r\n" + hidden,
        "chunked": head + b"Transfer-Encoding: chunked\r\n\r\n" + chunk,
        "expecting": head + length + b"Expect: 100-continue\r\n\r\n" + hidden,
        "upgrading": head + "\r\n".join([*WEBSOCKET, "", ""]).encode() + hidden,
        "upgrading, with a length": head
        + length
        + "\r\n".join([*WEBSOCKET, "", ""]).encode()
        + hidden,
    }


async def attack(one: Client, mesh: Mesh, message: bytes) -> None:
    """The message; and, before and after its answer, the bystander's own requests."""
    async with client(mesh, "bystander") as other:
        one.writer.write(message)
        for number in range(3):
            answer = await other.ask("GET", f"/mine/{number}", "Cookie: secret")
            assert answer.body == f'{{"path": "/mine/{number}"}}'.encode()
        async with asyncio.timeout(20):
            await one.reader.readuntil(b"\r\n\r\n")


@contextmanager
def nothing_hidden_is_seen(seen: Seen) -> Iterator[None]:
    seen.requests.clear()
    yield
    assert not seen.of("/admin")
    assert not seen.of("/swallow")
    assert not [r for r in seen.requests if r["headers"].get("x-forwarded-client-cert") == "root"]


@pytest.mark.parametrize("path", ["attacker", "gateway"])
@pytest.mark.parametrize("method", METHODS)
async def test_a_hidden_request_is_never_run(
    mesh: Mesh, victim: tuple[int, Seen], path: str, method: str
) -> None:
    with nothing_hidden_is_seen(victim[1]):
        for hidden in (HIDDEN, SWALLOWS):
            for message in messages(method, hidden).values():
                async with client(mesh, path) as one:
                    await attack(one, mesh, message)


@pytest.mark.parametrize("method", METHODS)
async def test_nor_straight_at_the_door(mesh: Mesh, victim: tuple[int, Seen], method: str) -> None:
    """As a thief of the attacker's SVID goes; who may also write the header that we copy to."""
    door = str(mesh.placement.door("web", "attacker"))
    context = doors.tls(mesh.credential("attacker"))
    with nothing_hidden_is_seen(victim[1]):
        for message in messages(method, HIDDEN).values():
            for lie in (b"", b"x-watertight-coding: \r\n"):
                reader, writer = await asyncio.open_unix_connection(
                    door, ssl=context, server_hostname="x"
                )
                head, _, rest = message.partition(b"\r\n")
                await attack(Client(reader, writer), mesh, head + b"\r\n" + lie + rest)
                writer.transport.abort()


@pytest.mark.parametrize("method", METHODS)
async def test_nor_over_http_2_with_and_without_a_length(
    mesh: Mesh, victim: tuple[int, Seen], method: str
) -> None:
    assert mesh.system.gateway is not None
    trusting = ssl.create_default_context(cadata=mesh.authority.bundle().pem().decode())

    async def streamed() -> AsyncIterator[bytes]:
        yield HIDDEN

    base = f"https://127.0.0.1:{mesh.system.gateway.port}"
    named = {"host": "shop.example"}
    extensions = {"sni_hostname": "shop.example"}
    with nothing_hidden_is_seen(victim[1]):
        async with httpx.AsyncClient(base_url=base, verify=trusting, http2=True) as outside:
            for content in (HIDDEN, streamed()):
                answer = await outside.request(
                    method, "/public/x", headers=named, extensions=extensions, content=content
                )
                assert (answer.http_version, answer.status_code) == ("HTTP/2", 200)
                again = await outside.get("/public/y", headers=named, extensions=extensions)
                assert again.json() == {"path": "/public/y"}


async def test_an_answer_to_head_that_has_a_body_reaches_nobody_else(mesh: Mesh) -> None:
    async with client(mesh, "attacker") as one:
        for number in range(ROUNDS):
            assert (await one.ask("HEAD", "/public/long")).status == 200
            async with client(mesh, "bystander") as other:
                answer = await other.ask("GET", f"/mine/{number}")
                assert answer.body == f'{{"path": "/mine/{number}"}}'.encode()


async def test_requests_without_a_body_share_connections(mesh: Mesh) -> None:
    """Only what may be dangerous pays for it."""
    made = "/stats?filter=cluster.app.upstream_cx_total$"
    before = await mesh.admin("web", made)
    async with client(mesh, "bystander") as one:
        for _ in range(10):
            assert (await one.ask("GET", "/mine/x")).status == 200
            assert (await one.ask("POST", "/mine/x", "Content-Length: 0")).status == 200
    after = await mesh.admin("web", made)
    assert int(after.split(":")[1]) - int(before.split(":")[1]) <= 2


async def test_without_the_guard_the_attack_succeeds(mesh: Mesh, victim: tuple[int, Seen]) -> None:
    """So it is the guard that closes it."""

    def unguarded(body: dict) -> None:  # type: ignore[type-arg]
        host = body["virtual_hosts"][0]
        host["routes"] = [r for r in host["routes"] if "direct_response" in r] + host["routes"][-1:]

    callers = ("attacker", "bystander")
    weak = together(*(editing("web", ResourceType.ROUTE, f"in|{c}", unguarded) for c in callers))
    victim[1].requests.clear()
    async with mesh.sabotage(weak), client(mesh, "attacker") as one:
        await attack(one, mesh, messages("GET", HIDDEN)["length"])
        assert victim[1].of("/admin")
