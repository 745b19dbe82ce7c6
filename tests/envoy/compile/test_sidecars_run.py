"""What the compiled sidecars really let through, on real Envoys."""

import httpx

from tests.envoy.compile.proxies import Mesh, echo, free_port, running
from watertight.enforcers.contract import Placement
from watertight.model.addresses import callee_addresses
from watertight.model.system import Channel, HTTPGrant, Listen, Protocol, Service, System

GRANTS = (
    HTTPGrant("GET", "/orders/*"),
    HTTPGrant("POST", "/orders"),
    HTTPGrant("GET", "/deep/**"),
    HTTPGrant("GET", "/{tenant}/files/**"),
    HTTPGrant("GET", "/"),
)


def shop(port: int) -> System:
    """Three callers of one service, one by each data path."""
    return System(
        "shop.internal",
        services={
            "orders": Service("orders", listens=Listen(Protocol.HTTP, port)),
            **{name: Service(name) for name in ("tunneller", "policed", "retrier")},
        },
        channels=(
            Channel("tunneller", "orders"),
            Channel("policed", "orders", GRANTS),
            Channel("retrier", "orders", GRANTS, timeout_seconds=5, retries=2),
        ),
    )


async def status(mesh: Mesh, caller: str, method: str, path: str, **headers: str) -> str:
    """The status of one request of a caller's app, or the name of the transport's error."""
    port = next(s.listens.port for s in mesh.system.services.values() if s.listens)
    address = callee_addresses(mesh.system, caller, shared_network=True)["orders"]
    reader_url = f"http://{address}:{port}"
    async with httpx.AsyncClient(base_url=reader_url) as client:
        request = client.build_request(method, "/", headers=headers)
        # Not normalised by the client: the attacker writes what he likes.
        request.url = request.url.copy_with(raw_path=path.encode())
        try:
            return str((await client.send(request)).status_code)
        except httpx.TransportError as error:
            return type(error).__name__


async def test_grants_hold_on_both_policed_paths(placement: Placement) -> None:
    port = free_port()
    expected = {
        ("GET", "/orders/1"): "200",
        ("GET", "/orders/1?x=/../y"): "200",
        ("POST", "/orders"): "200",
        ("GET", "/deep/a"): "200",
        ("GET", "/deep/a/b/c"): "200",
        ("GET", "/"): "200",
        ("GET", "/orders/../orders/7"): "200",
        ("GET", "//orders//7"): "200",
        ("DELETE", "/orders/1"): "403",
        ("GET", "/orders"): "403",
        ("GET", "/orders/"): "403",
        ("GET", "/orders/1/2"): "403",
        ("GET", "/orders/../admin"): "403",
        ("GET", "/deep"): "403",
        ("GET", "/deep/"): "403",
        ("GET", "/orders/a%2fb"): "400",
        ("GET", "/orders/a%5Cb"): "400",
        ("HEAD", "/orders/1"): "403",
    }
    async with echo(port), running(shop(port), placement) as mesh:
        for caller in ("policed", "retrier"):
            seen = {key: await status(mesh, caller, *key) for key in expected}
            assert seen == expected, caller
        assert await status(mesh, "tunneller", "DELETE", "/anything/at/all") == "200"


async def test_the_app_is_told_who_calls_and_cannot_be_lied_to(placement: Placement) -> None:
    port = free_port()
    lie = {
        "x-forwarded-client-cert": "URI=spiffe://shop.internal/admin",
        "x-http-method-override": "DELETE",
        "x-watertight-subject": "root",
        "x-envoy-retry-on": "5xx",
    }
    async with echo(port), running(shop(port), placement) as mesh:
        for caller in ("policed", "retrier"):
            address = callee_addresses(mesh.system, caller, shared_network=True)["orders"]
            async with httpx.AsyncClient(base_url=f"http://{address}:{port}") as client:
                headers = (await client.get("/orders/1", headers=lie)).json()["headers"]
            told = headers.get("x-forwarded-client-cert")
            assert told == f"URI=spiffe://shop.internal/{caller}"
            assert not {name for name in lie if name in headers} - {"x-forwarded-client-cert"}
        answer = await status(mesh, "policed", "GET", "/orders/1", under_score="1")
        assert answer == "400"


async def test_a_door_opens_to_exactly_one_identity(placement: Placement) -> None:
    port = free_port()
    connect = {":method": "CONNECT", ":authority": f"orders:{port}"}
    elsewhere = {":method": "CONNECT", ":authority": f"orders:{port + 1}"}
    plain = {":method": "GET", ":scheme": "https", ":authority": "orders", ":path": "/orders/1"}
    td = "spiffe://shop.internal"
    async with echo(port), running(shop(port), placement) as mesh:
        issue = mesh.authority.issue
        right = issue(f"{td}/policed")
        assert await mesh.door("orders", "policed", right, connect) == "200"
        assert await mesh.door("orders", "policed", right, elsewhere) == "403"
        assert await mesh.door("orders", "policed", right, plain) == "403"
        assert await mesh.door("orders", "retrier", issue(f"{td}/retrier"), plain) == "200"
        assert await mesh.door("orders", "retrier", issue(f"{td}/retrier"), connect) == "403"
        wrong = {
            "no certificate": None,
            "another service": issue(f"{td}/tunneller"),
            "two URI SANs": issue(f"{td}/policed", f"{td}/tunneller"),
            "the same twice": issue(f"{td}/policed", f"{td}/policed"),
            "in a DNS SAN": issue(dns=("policed",)),
            "expired": issue(f"{td}/policed", minutes=-1),
            "a CA": issue(f"{td}/policed", ca=True),
            "another trust domain": issue("spiffe://other/policed"),
        }
        for what, pair in wrong.items():
            answer = await mesh.door("orders", "policed", pair, connect)
            assert answer == ("403" if "SANs" in what or "twice" in what else "cut"), what
