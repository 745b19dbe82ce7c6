"""What the compiled sidecars really let through, on real Envoys."""

import asyncio
import json
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.dataplane.compile import doors
from tests.mesh import Mesh, running_mesh
from tests.verify.live import signer
from watertight.attack.arena import Credential, Forgery
from watertight.model.system import Channel, HTTPGrant, Listen, Protocol, Service, System
from watertight.verify.forge import Forger

SERVER_AUTH = ExtendedKeyUsageOID.SERVER_AUTH
GRANTS = (
    HTTPGrant("GET", "/orders/*"),
    HTTPGrant("POST", "/orders"),
    HTTPGrant("GET", "/deep/**"),
    HTTPGrant("GET", "/{tenant}/files/**"),
    HTTPGrant("GET", "/"),
)

SHOP = System(
    "shop.internal",
    services={
        "orders": Service("orders", listens=Listen(Protocol.HTTP, 1)),
        **{name: Service(name) for name in ("unrestricted", "policed", "retrier")},
    },
    channels=(
        Channel("unrestricted", "orders"),
        Channel("policed", "orders", GRANTS),
        Channel("retrier", "orders", GRANTS, timeout_seconds=5, retries=2),
    ),
)
"""Three callers of one service: by identity only, with grants, and with all that may be said."""


async def status(mesh: Mesh, caller: str, method: str, path: str) -> int:
    """The status of one request of a caller's app; the path goes out as it is written."""
    host, port = mesh.address(caller, "orders")
    async with httpx.AsyncClient(base_url=f"http://{host}:{port}") as client:
        request = client.build_request(method, "/")
        request.url = request.url.copy_with(raw_path=path.encode())
        return (await client.send(request)).status_code


async def test_grants_hold_with_and_without_retries() -> None:
    expected = {
        ("GET", "/orders/1"): 200,
        ("GET", "/orders/1?x=/../y"): 200,
        ("POST", "/orders"): 200,
        ("GET", "/deep/a"): 200,
        ("GET", "/deep/a/b/c"): 200,
        ("GET", "/acme/files/a/b"): 200,
        ("GET", "/"): 200,
        ("GET", "/orders/../orders/7"): 200,
        ("GET", "//orders//7"): 200,
        ("DELETE", "/orders/1"): 403,
        ("GET", "/orders"): 403,
        ("GET", "/orders/"): 403,
        ("GET", "/orders/1/2"): 403,
        ("GET", "/orders/../admin"): 403,
        ("GET", "/deep"): 403,
        ("GET", "/deep/"): 403,
        ("GET", "/acme/files/"): 403,
        ("GET", "/a/b/files/c"): 403,
        ("GET", "/orders/a%2fb"): 400,
        ("GET", "/orders/a%5Cb"): 400,
        ("HEAD", "/orders/1"): 403,
    }
    async with running_mesh(SHOP) as mesh:
        for caller in ("policed", "retrier"):
            seen = {key: await status(mesh, caller, *key) for key in expected}
            assert seen == expected, caller
        # Where no path is granted none is judged: what it means is the app's own affair.
        for path in ("/anything/at/all", "/a%2fb", "/a%5Cb", "/..;/x"):
            assert await status(mesh, "unrestricted", "DELETE", path) == 200


LIES = {
    "x-forwarded-client-cert": "URI=spiffe://shop.internal/admin",
    "x-forwarded-for": "203.0.113.9",
    "x-forwarded-host": "evil.example",
    "x-forwarded-proto": "gopher",
    "x-forwarded-user": "root",
    "forwarded": "for=203.0.113.9",
    "x-real-ip": "203.0.113.9",
    "client-cert": ":AAAA:",
    "ssl-client-verify": "SUCCESS",
    "x-watertight-subject": "root",
    "x-watertight-coding": "chunked",
    "x-envoy-retry-on": "5xx",
    "x-envoy-max-retries": "9",
    "x-envoy-upstream-rq-timeout-ms": "1",
    "x-envoy-decorator-operation": "x",
    "x-envoy-internal": "true",
    "x-envoy-original-path": "/admin",
}


async def test_the_app_is_told_who_calls_and_cannot_be_lied_to() -> None:
    """On every channel; past the caller's own proxy too, as a thief of its SVID goes."""
    async with running_mesh(SHOP) as mesh:
        for caller in ("unrestricted", "policed", "retrier"):
            overrides = {"x-http-method-override": "DELETE"} if caller != "unrestricted" else {}
            lies = LIES | overrides
            answer = await mesh.request(caller, "orders", "GET", "/orders/1", headers=lies)
            past = await doors.exchange(
                mesh.placement.door("orders", caller),
                mesh.credential(caller),
                "\r\n".join(
                    [
                        "GET /orders/1 HTTP/1.1",
                        "host: orders",
                        "connection: close",
                        *(f"{name}: {value}" for name, value in lies.items()),
                        "\r\n",
                    ]
                ).encode(),
            )
            for seen in (answer.json(), json.loads(past.partition(b"\r\n\r\n")[2])):
                headers = dict(seen["headers"])
                told = headers.pop("x-forwarded-client-cert")
                assert told == f"URI=spiffe://shop.internal/{caller}"
                assert not set(lies) & set(headers)


async def test_a_host_that_is_not_one_host_is_refused() -> None:
    async with running_mesh(SHOP) as mesh:
        door, right = mesh.placement.door("orders", "unrestricted"), mesh.credential("unrestricted")
        host, port = mesh.address("unrestricted", "orders")
        for bad in ("a,b", "a\r\nHost: b", "", "a/b", "a@b", "a:b", "a:123456", "a b"):
            assert await doors.ask(door, right, "GET", "/", host=bad) == "400", bad
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(f"GET / HTTP/1.1\r\nHost: {bad}\r\nConnection: close\r\n\r\n".encode())
            assert (await reader.read()).startswith(b"HTTP/1.1 400 "), bad
            writer.close()
        for good in (
            "orders",
            "orders.shop.internal:80",
            "127.0.0.1:8081",
            "[::1]:80",
            "a_b",
            "A.",
            "orders.",
            "orders.:8081",
        ):
            answer = await mesh.request("policed", "orders", "GET", "/", headers={"host": good})
            assert ["host", good] in answer.json()["headers"], "as the caller wrote it"


@contextmanager
def forging(mesh: Mesh) -> Iterator[Forger]:
    """Whoever holds the mesh's own issuing key."""
    forger = Forger(signer(mesh))
    try:
        yield forger
    finally:
        forger.close()


async def test_a_door_opens_to_exactly_one_identity() -> None:
    async with running_mesh(SHOP) as mesh:
        for caller in ("policed", "retrier"):
            door, right = mesh.placement.door("orders", caller), mesh.credential(caller)
            assert await doors.ask(door, right, "GET", "/orders/1") == "200"
            assert await doors.ask(door, right, "GET", "/admin") == "403"
            # No way through to anywhere: CONNECT is for proxies that obey.
            assert await doors.ask(door, right, "CONNECT", "orders:80") in {"400", "403", "404"}
            assert await doors.ask(door, Credential(), "GET", "/orders/1") == "cut"
            other = mesh.credential("unrestricted")
            assert await doors.ask(door, other, "GET", "/orders/1") == "cut"


RIGHT, OTHER = "spiffe://shop.internal/policed", "spiffe://shop.internal/unrestricted"
FORGERIES = {
    "right": (Forgery((RIGHT,)), "200"),
    # TLS is content with one that fits; RBAC compares the whole list.
    "two URI SANs": (Forgery((RIGHT, OTHER)), "403"),
    "two, the right one last": (Forgery((OTHER, RIGHT)), "403"),
    "only in a DNS SAN": (Forgery(dns_sans=("policed",)), "cut"),
    "only in the CN": (Forgery((OTHER,), common_name=RIGHT), "cut"),
    "expired": (Forgery((RIGHT,), not_after_seconds=-30), "cut"),
    "not yet valid": (Forgery((RIGHT,), not_before_seconds=300, not_after_seconds=600), "cut"),
    "foreign": (Forgery((RIGHT,), issuer="foreign"), "cut"),
    "self-signed": (Forgery((RIGHT,), issuer="self"), "cut"),
    "a server's": (Forgery((RIGHT,), extended_key_usages=(SERVER_AUTH,)), "cut"),
    "another trust domain": (Forgery(("spiffe://other.internal/policed",)), "cut"),
}


async def test_a_door_opens_to_no_forged_identity() -> None:
    """Neither where requests are judged, nor where bytes are passed."""
    system = replace(
        SHOP,
        services={**SHOP.services, "stock": Service("stock", listens=Listen(Protocol.TCP, 1))},
        channels=(*SHOP.channels, Channel("policed", "stock")),
    )
    async with running_mesh(system) as mesh:
        with forging(mesh) as forger:
            parsed = mesh.placement.door("orders", "policed")
            passed = mesh.placement.door("stock", "policed")
            seen = {}
            for what, (forgery, _) in FORGERIES.items():
                credential = forger.forge(forgery)
                seen[what] = await doors.ask(parsed, credential, "GET", "/orders/1")
                echoed = await echo(passed, credential)
                assert echoed == (b"hello" if what == "right" else b""), what
    assert seen == {what: expected for what, (_, expected) in FORGERIES.items()}


async def echo(door: Path, credential: Credential) -> bytes:
    """What comes back for a word."""
    try:
        reader, writer = await asyncio.open_unix_connection(
            str(door), ssl=doors.tls(credential), server_hostname="door"
        )
        writer.write(b"hello")
        async with asyncio.timeout(doors.DEADLINE_SECONDS):
            answer = await reader.read(5)
        writer.transport.abort()
    except (ssl.SSLError, ConnectionError):
        return b""
    return answer
