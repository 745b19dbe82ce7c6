"""What the compiled sidecars really let through, on real Envoys."""

from collections.abc import Iterator
from contextlib import contextmanager

import httpx
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.envoy.compile import doors
from tests.mesh import Mesh, running_mesh
from tests.verify.live import signer
from watertight.enforcers.contract import Credential, Forgery
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
        **{name: Service(name) for name in ("tunneller", "policed", "retrier")},
    },
    channels=(
        Channel("tunneller", "orders"),
        Channel("policed", "orders", GRANTS),
        Channel("retrier", "orders", GRANTS, timeout_seconds=5, retries=2),
    ),
)
"""Three callers of one service, one by each data path."""


async def status(mesh: Mesh, caller: str, method: str, path: str) -> int:
    """The status of one request of a caller's app; the path goes out as it is written."""
    host, port = mesh.address(caller, "orders")
    async with httpx.AsyncClient(base_url=f"http://{host}:{port}") as client:
        request = client.build_request(method, "/")
        request.url = request.url.copy_with(raw_path=path.encode())
        return (await client.send(request)).status_code


async def test_grants_hold_on_both_policed_paths() -> None:
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
        assert await status(mesh, "tunneller", "DELETE", "/anything/at/all") == 200


async def test_the_app_is_told_who_calls_and_cannot_be_lied_to() -> None:
    lie = {
        "x-forwarded-client-cert": "URI=spiffe://shop.internal/admin",
        "x-http-method-override": "DELETE",
        "x-watertight-subject": "root",
        "x-envoy-retry-on": "5xx",
        "x-envoy-original-path": "/admin",
    }
    async with running_mesh(SHOP) as mesh:
        for caller in ("policed", "retrier"):
            answer = await mesh.request(caller, "orders", "GET", "/orders/1", headers=lie)
            headers = dict(answer.json()["headers"])
            told = headers.pop("x-forwarded-client-cert")
            assert told == f"URI=spiffe://shop.internal/{caller}"
            assert not set(lie) & set(headers)
            under = await mesh.request(caller, "orders", "GET", "/", headers={"under_score": "1"})
            assert under.status_code == 400


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
        listens = mesh.system.services["orders"].listens
        assert listens is not None
        connect = {":method": "CONNECT", ":authority": f"orders:{listens.port}"}
        elsewhere = {":method": "CONNECT", ":authority": f"orders:{listens.port + 1}"}
        granted = {":method": "GET", ":scheme": "https", ":authority": "x", ":path": "/orders/1"}
        other = granted | {":path": "/admin"}
        policed = mesh.placement.door("orders", "policed")
        retrier = mesh.placement.door("orders", "retrier")

        # Tunnelled or not, whatever path is declared: the same grants.
        for door, caller in ((policed, "policed"), (retrier, "retrier")):
            right = mesh.credential(caller)
            assert await doors.ask(door, right, connect) == "200"
            assert await doors.ask(door, right, elsewhere) == "403"
            assert await doors.ask(door, right, granted) == "200"
            assert await doors.ask(door, right, other) == "403"
        assert await doors.ask(policed, Credential(), connect) == "cut"
        assert await doors.ask(policed, mesh.credential("tunneller"), connect) == "cut"


async def test_a_door_opens_to_no_forged_identity() -> None:
    right, other = "spiffe://shop.internal/policed", "spiffe://shop.internal/tunneller"
    forgeries = {
        "right": (Forgery((right,)), "200"),
        # TLS is content with one that fits; RBAC compares the whole list.
        "two URI SANs": (Forgery((right, other)), "403"),
        "two, the right one last": (Forgery((other, right)), "403"),
        "only in a DNS SAN": (Forgery(dns_sans=("policed",)), "cut"),
        "only in the CN": (Forgery((other,), common_name=right), "cut"),
        "expired": (Forgery((right,), not_after_seconds=-30), "cut"),
        "not yet valid": (Forgery((right,), not_before_seconds=300, not_after_seconds=600), "cut"),
        "foreign": (Forgery((right,), issuer="foreign"), "cut"),
        "self-signed": (Forgery((right,), issuer="self"), "cut"),
        "a server's": (Forgery((right,), extended_key_usages=(SERVER_AUTH,)), "cut"),
        "another trust domain": (Forgery(("spiffe://other.internal/policed",)), "cut"),
    }
    async with running_mesh(SHOP) as mesh:
        listens = mesh.system.services["orders"].listens
        assert listens is not None
        connect = {":method": "CONNECT", ":authority": f"orders:{listens.port}"}
        with forging(mesh) as forger:
            door = mesh.placement.door("orders", "policed")
            seen = {
                what: await doors.ask(door, forger.forge(forgery), connect)
                for what, (forgery, _) in forgeries.items()
            }
    assert seen == {what: expected for what, (_, expected) in forgeries.items()}
