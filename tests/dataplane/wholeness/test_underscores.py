"""Names of headers with ``_`` reach the app on every path, but for what it may take for ours."""

import json
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from typing import Any

import grpc
import httpx
import pytest
import pytest_asyncio

from tests.apps import running_app
from tests.dataplane.compile import doors
from tests.dataplane.wholeness import apps
from tests.dataplane.wholeness.paths import DEADLINE_SECONDS, MOST_RPC_BYTES
from tests.mesh import Mesh, running_mesh
from tests.ports import free_port
from watertight.dataplane.compile.headers import (
    CERTIFICATES,
    FORWARDING,
    FRAMING,
    OVERRIDES,
    PROXIES,
    SERVED_USERS,
    USERS,
)
from watertight.model.system import (
    Channel,
    Gateway,
    HTTPGrant,
    Listen,
    Protocol,
    Route,
    RPCGrant,
    Service,
    System,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

CHOSEN = {
    "api_key": "1",
    "x_trace": "2",
    "user_id": "3",
    "ot-baggage-sentry-trace_id": "4",
    "_": "5",
    "x__a_": "6",
    "content_type": "7",
    "x_watertigh_t": "8",
}
"""As programs send them: Sentry's SDK, identifiers of tenants."""


def folded(names: tuple[str, ...], beginnings: tuple[str, ...] = ()) -> list[str]:
    """How an app may hear of these under other names: ``_`` for all hyphens, or for the last."""
    whole = [name for name in (*names, *(f"{start}user" for start in beginnings)) if "-" in name]
    return [
        *(name.replace("-", "_") for name in whole),
        *("_".join(name.rsplit("-", 1)) for name in whole),
    ]


ALWAYS = folded((*CERTIFICATES, *FORWARDING, "x-forwarded-client-cert"), PROXIES)
FRAMED = folded(FRAMING)
JUDGED = folded(OVERRIDES)
OUTSIDE = folded((*USERS, "x-request-id"), SERVED_USERS)
GRANTS = (HTTPGrant("GET", "/**"), HTTPGrant("GET", "/"))


def system(ports: Mapping[str, int]) -> System:
    """Two callers of each kind of app, and the gateway."""
    return System(
        "shop.internal",
        services={
            "web": Service("web", listens=Listen(Protocol.HTTP, ports["web"])),
            "rpc": Service("rpc", listens=Listen(Protocol.GRPC, ports["rpc"])),
            **{name: Service(name) for name in ("identity", "grants")},
        },
        channels=(
            Channel("identity", "web"),
            Channel("grants", "web", GRANTS),
            Channel("identity", "rpc"),
            Channel("grants", "rpc", (RPCGrant("shop.Catalogue", "Told"),)),
        ),
        gateway=Gateway(
            "shop.example",
            (
                Route("/shop.Catalogue/Told", "rpc", ("POST",)),
                Route("/**", "web", ("GET",)),
            ),
            port=free_port("127.0.0.1"),
        ),
    )


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def mesh() -> AsyncIterator[Mesh]:
    async with AsyncExitStack() as stack:
        ports = {
            "web": await stack.enter_async_context(running_app("web", Protocol.HTTP)),
            "rpc": await stack.enter_async_context(apps.rpc(MOST_RPC_BYTES)),
        }
        yield await stack.enter_async_context(running_mesh(system(ports), apps=False))


async def told_over_http(mesh: Mesh, path: str, names: Mapping[str, str]) -> dict[str, str]:
    """What the app was told of these headers."""
    if path in {"identity", "grants"}:
        answer = await mesh.request(path, "web", "GET", "/a", headers=dict(names))
    elif path == "past the caller's proxy":
        lines = [f"{name}: {value}" for name, value in names.items()]
        head = "\r\n".join(["GET /a HTTP/1.1", "Host: web", "Connection: close", *lines, "", ""])
        door = mesh.placement.door("web", "grants")
        got = await doors.exchange(door, mesh.credential("grants"), head.encode())
        answer = httpx.Response(int(got.split()[1]), content=got.partition(b"\r\n\r\n")[2])
    else:
        answer = await outside(mesh, names, http2=path == "gateway, HTTP/2")
    assert answer.status_code == 200, answer
    headers: list[list[str]] = answer.json()["headers"]
    return {name: value for name, value in headers if "_" in name}


async def outside(mesh: Mesh, names: Mapping[str, str], *, http2: bool) -> httpx.Response:
    """The gateway's answer."""
    gateway = mesh.system.gateway
    assert gateway is not None
    trusting = ssl.create_default_context(cadata=mesh.authority.bundle().pem().decode())
    async with httpx.AsyncClient(verify=trusting, http2=http2, http1=not http2) as client:
        answer = await client.get(
            f"https://{gateway.address}:{gateway.port}/a",
            headers={"host": gateway.hostname, **names},
            extensions={"sni_hostname": gateway.hostname},
        )
    assert answer.http_version == ("HTTP/2" if http2 else "HTTP/1.1")
    return answer


async def told_over_grpc(mesh: Mesh, path: str, names: Mapping[str, str]) -> dict[str, str]:
    """What the server was told of this metadata."""
    gateway = mesh.system.gateway
    assert gateway is not None
    if path == "gateway":
        roots = grpc.ssl_channel_credentials(mesh.authority.bundle().pem())
        named = [("grpc.ssl_target_name_override", gateway.hostname)]
        where = f"{gateway.address}:{gateway.port}"
        made = grpc.aio.secure_channel(where, roots, options=named)
    else:
        made = grpc.aio.insecure_channel("{}:{}".format(*mesh.address(path, "rpc")))
    async with made as channel:
        call = channel.unary_unary("/shop.Catalogue/Told")
        answer = await call(b"", metadata=tuple(names.items()), timeout=DEADLINE_SECONDS)
    told: list[list[str]] = json.loads(answer)
    return {name: value for name, value in told if "_" in name}


HTTP = ("identity", "grants", "past the caller's proxy", "gateway, HTTP/1", "gateway, HTTP/2")
RPC = ("identity", "grants", "gateway")


@pytest.mark.parametrize("path", HTTP)
async def test_an_http_app_is_told(mesh: Mesh, path: str) -> None:
    assert await told_over_http(mesh, path, CHOSEN) == CHOSEN


@pytest.mark.parametrize("path", RPC)
async def test_a_grpc_app_is_told(mesh: Mesh, path: str) -> None:
    chosen = {name: value for name, value in CHOSEN.items() if name != "_"}
    assert await told_over_grpc(mesh, path, chosen) == chosen


@pytest.mark.parametrize("path", HTTP)
async def test_an_http_app_is_told_nothing_that_it_may_take_for_ours(mesh: Mesh, path: str) -> None:
    names = [*ALWAYS, *FRAMED]
    names += JUDGED if path != "identity" else []
    names += OUTSIDE if "gateway" in path else []
    for at in range(0, len(names), 40):
        lies = dict.fromkeys(names[at : at + 40], "forged")
        assert await told_over_http(mesh, path, CHOSEN | lies) == CHOSEN


@pytest.mark.parametrize("path", RPC)
async def test_nor_is_a_grpc_app(mesh: Mesh, path: str) -> None:
    names = [*ALWAYS, *(OUTSIDE if path == "gateway" else [])]
    for at in range(0, len(names), 40):
        lies = dict.fromkeys(names[at : at + 40], "forged")
        assert await told_over_grpc(mesh, path, {"user_id": "3", **lies}) == {"user_id": "3"}


async def test_who_forwards_users_may_say_so_between_services(mesh: Mesh) -> None:
    """The names that only outsiders may not write, whatever stands between their words."""
    names: dict[str, Any] = {"x-remote_user": "alice", "x_request_id": "7"}
    assert await told_over_http(mesh, "grants", names) == names


async def test_a_hidden_length_hides_no_request(mesh: Mesh) -> None:
    """``content_length`` beside a body of another length: the app reads what Envoy has judged."""
    door, host = mesh.placement.door("web", "identity"), "Host: web"
    lines = [host, "content_length: 3", "Content-Length: 5", "Connection: close", "", "hello"]
    raw = "\r\n".join(["POST /a HTTP/1.1", *lines]).encode()
    got = await doors.exchange(door, mesh.credential("identity"), raw)
    assert json.loads(got.partition(b"\r\n\r\n")[2])["body"] == "hello"
