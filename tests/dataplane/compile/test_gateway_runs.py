"""What the compiled gateway really lets through, on real Envoys."""

import base64
import json
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import grpc
import httpx
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from joserfc.jwk import ECKey

from tests.mesh import Mesh, running_mesh
from watertight.dataplane.compile import compile_envoy
from watertight.model.system import (
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

ISSUER = "https://login.shop.example"
KEY = ECKey.generate_key("P-256", {"kid": "1", "alg": "ES256", "use": "sig"})
OTHER_KEY = ECKey.generate_key("P-256", {"kid": "1", "alg": "ES256", "use": "sig"})
KEYS = {"main": json.dumps({"keys": [KEY.as_dict(private=False)]})}
READ = Requirement("main", ("orders:read",))


ROUTES = (
    Route("/api/orders/*", "orders", ("GET",), rewrite="/orders/*", require=READ),
    Route("/api/orders", "orders", ("POST",), rewrite="/orders", require=READ),
    Route("/files/{tenant}/**", "orders", rewrite="/f/{tenant}/x/**"),
    Route("/", "orders", ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")),
    Route("/rare", "orders", limit=Limit(Per.ADDRESS, 2, 3600)),
    Route("/open/**", "orders"),
    Route("/admin", "orders", require=READ),
    Route("/mine", "orders", require=READ, limit=Limit(Per.SUBJECT, 2, 3600)),
)
SHOP = System(
    "shop.internal",
    services={"orders": Service("orders", listens=Listen(Protocol.HTTP, 1))},
    gateway=Gateway(
        "shop.example",
        ROUTES,
        issuers={"main": Issuer("main", ISSUER, ("shop", "shop-too"), "jwks.json")},
        max_request_bytes=10_000,
    ),
)
"""One service behind the gateway, by routes of every kind."""


class Outside:
    """Somebody on the internet."""

    def __init__(self, mesh: Mesh, client: httpx.AsyncClient) -> None:
        self.mesh = mesh
        self.client = client

    async def ask(
        self, path: str, method: str = "GET", *, host: str = "shop.example", **rest: Any
    ) -> httpx.Response:
        """One request, its path as it is written."""
        headers = {"host": host, **rest.pop("headers", {})}
        request = self.client.build_request(
            method, "/", headers=headers, extensions={"sni_hostname": "shop.example"}, **rest
        )
        request.url = request.url.copy_with(raw_path=path.encode())
        return await self.client.send(request)

    async def bearing(self, token: str, path: str = "/api/orders/1") -> int:
        """The status that a token is worth."""
        answer = await self.ask(path, headers={"authorization": f"Bearer {token}"})
        return answer.status_code


@asynccontextmanager
async def outside() -> AsyncIterator[Outside]:
    """The shop with its gateway, and a client that trusts its certificate."""
    async with running_mesh(SHOP, keys=KEYS) as mesh:
        assert mesh.system.gateway is not None
        context = ssl.create_default_context(cadata=mesh.identities.bundle().pem().decode())
        base = f"https://127.0.0.1:{mesh.system.gateway.port}"
        async with httpx.AsyncClient(base_url=base, verify=context) as client:
            yield Outside(mesh, client)


def token(
    key: ECKey = KEY, *, header: dict[str, Any] | None = None, drop: str = "", **claims: Any
) -> str:
    """A token of the issuer; keywords change its claims, ``drop`` leaves one out."""
    now = int(time.time())
    payload = {
        "iss": ISSUER,
        "aud": "shop",
        "sub": "alice",
        "iat": now,
        "exp": now + 300,
        "scope": "orders:read orders:write",
        **claims,
    }
    payload.pop(drop, None)
    protected = {"alg": "ES256", "kid": "1", "typ": "at+jwt", **(header or {})}
    # By hand up to the signature: the library would not sign half of what is tried here.
    parts = ".".join(_part(json.dumps(part).encode()) for part in (protected, payload))
    assert key.private_key is not None
    der = key.private_key.sign(parts.encode(), ec.ECDSA(hashes.SHA256()))
    signature = b"".join(number.to_bytes(32) for number in decode_dss_signature(der))
    return f"{parts}.{_part(signature)}"


def _part(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


async def test_routes_rewrites_and_refusals() -> None:
    async with outside() as client:
        good = {"authorization": f"Bearer {token()}"}
        lie = {"x-watertight-subject": "root", "x-forwarded-client-cert": "URI=spiffe://x/y"}
        answer = await client.ask("/api/orders/7?q=1&r=%2F", headers=good | lie)
        seen = answer.json()
        assert (seen["method"], seen["path"]) == ("GET", "/orders/7?q=1&r=%2F")
        headers = dict(seen["headers"])
        assert headers["x-forwarded-client-cert"] == "URI=spiffe://shop.internal/gateway"
        assert headers["x-watertight-subject"] == "alice"
        assert "authorization" not in headers
        assert not [name for name in headers if name.startswith("x-envoy")]
        assert (await client.ask("/files/acme/a/b?v=2")).json()["path"] == "/f/acme/x/a/b?v=2"
        assert (await client.ask("/")).json()["path"] == "/"
        own = {"authorization": "Basic YTpi"}
        seen = (await client.ask("/", headers=own)).json()
        assert ["authorization", "Basic YTpi"] in seen["headers"]

        expected = {
            "/nowhere": 404,
            "/api/orders/1/2": 404,
            "/api/orders/": 404,
            "/files/acme/": 404,
            "/api/orders/a%2fb": 400,
            "/api/orders/..%5cx": 400,
            "/api/../nowhere": 404,
        }
        assert {p: (await client.ask(p)).status_code for p in expected} == expected
        wrong = await client.ask("/api/orders/1", "DELETE")
        assert (wrong.status_code, wrong.headers["allow"]) == (405, "GET")
        assert (await client.ask("/api/orders", "GET")).headers["allow"] == "POST"
        assert (await client.ask("/", host="other.example")).status_code == 421
        assert (await client.ask("/", host="shop.example:8443")).status_code == 200


async def test_two_proxies_in_a_row_judge_one_path() -> None:
    """Normalised twice, ``%2e%2e;`` first becomes ``..;`` and then a step up, past the token."""
    shapes = ("%2e%2e;", ".%2e;x=1", "%2E%2e%3b", "..%3Bx", "%2e;/..%3b", "x/%2e%2e;/%2e%2e;")
    async with outside() as client:
        assert (await client.ask("/admin")).status_code == 401
        assert (await client.ask("/open/a;b")).json()["path"] == "/open/a;b"
        assert (await client.ask("/open/..;/admin")).status_code in {400, 401}
        for shape in shapes:
            answer = await client.ask(f"/open/{shape}/admin")
            assert answer.status_code == 400, (shape, answer.text)


async def test_where_a_request_comes_from_is_what_the_gateway_sees() -> None:
    lie = {
        "forwarded": "for=203.0.113.9",
        "x-forwarded-for": "203.0.113.9",
        "x-forwarded-host": "evil.example",
        "x-forwarded-proto": "http",
        "x-real-ip": "203.0.113.9",
    }
    async with outside() as client:
        headers = (await client.ask("/", headers=lie)).json()["headers"]
        told = [(name, value) for name, value in headers if name in lie]
    assert dict(told) == {
        "x-forwarded-for": "127.0.0.1",
        "x-forwarded-host": "shop.example",
        "x-forwarded-proto": "https",
    }
    assert len(told) == len(dict(told))


async def test_grpc_passes_the_gateway() -> None:
    assert SHOP.gateway is not None
    system = replace(
        SHOP,
        services={"catalogue": Service("catalogue", listens=Listen(Protocol.GRPC, 1))},
        gateway=replace(
            SHOP.gateway, routes=(Route("/shop.Catalogue/Get", "catalogue", ("POST",)),)
        ),
    )
    async with running_mesh(system) as mesh:
        assert mesh.system.gateway is not None
        trusted = grpc.ssl_channel_credentials(mesh.identities.bundle().pem())
        name = (("grpc.ssl_target_name_override", "shop.example"),)
        target = f"127.0.0.1:{mesh.system.gateway.port}"
        async with grpc.aio.secure_channel(target, trusted, options=name) as channel:
            call = channel.unary_unary("/shop.Catalogue/Get")
            assert await call(b"hello", timeout=20) == b"hello"
            with pytest.raises(grpc.aio.AioRpcError) as refusal:
                await channel.unary_unary("/shop.Catalogue/Delete")(b"hello", timeout=20)
    assert refusal.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_every_answer_carries_the_safety_headers() -> None:
    async with outside() as client:
        for answer in (await client.ask("/"), await client.ask("/nowhere")):
            assert answer.headers["strict-transport-security"] == "max-age=31536000"
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["x-frame-options"] == "SAMEORIGIN"
            assert "frame-ancestors 'self'" in answer.headers["content-security-policy"]
            assert not [n for n in answer.headers if n == "server" or n.startswith("x-envoy")]
            assert not {"alt-svc", "nel"} & set(answer.headers)
        # Of one that shares the origin with others it is taken away (golden/gateway.yaml).
        assert (await client.ask("/")).headers["service-worker-allowed"] == "/"


async def test_bodies_and_headers_have_a_limit() -> None:
    async with outside() as client:
        good = {"authorization": f"Bearer {token()}"}
        small = await client.ask("/api/orders", "POST", headers=good, content=b"x" * 10_000)
        assert (small.status_code, len(small.json()["body"])) == (200, 10_000)
        large = await client.ask("/api/orders", "POST", headers=good, content=b"x" * 10_001)
        assert large.status_code == 413
        assert (await client.ask("/", headers={"x": "y" * 40_000})).status_code == 431


NO_TIMES: tuple[Any, ...] = (2**63 - 1, 2**63, 2**63 + 1025, 1e30, -1, "7", True, [1])
NO_NAMES: tuple[Any, ...] = (
    *("alice ", "alice   ", " alice", "alice\t", "\talice", "alice\u00a0", "alice\u3000", "", " "),
    *("al\0ice", "alice\r\nx-a: b", "alice\x7f", "al\u0131ce", 7, True, ["alice"], {}),
)
BAD_TOKENS = {
    "wrong key": token(OTHER_KEY),
    "wrong issuer": token(iss="https://evil.example"),
    "wrong audience": token(aud="bank"),
    "no audience": token(drop="aud"),
    "expired": token(exp=int(time.time()) - 60),
    "no exp": token(drop="exp"),
    "far exp": token(exp=int(time.time()) + 10 * 365 * 86_400),
    "not yet": token(nbf=int(time.time()) + 600),
    **{
        f"{name} {value!r}": token(KEY, **{name: value})
        for name in ("exp", "nbf", "iat")
        for value in NO_TIMES
    },
    **{
        f"audience {value!r}": token(aud=value)
        for value in (
            *("shop/", "https://shop/", "https://shop", "http://shop", "SHOP", "shop ", " shop"),
            *("shop bank", "", [], [["shop"]], {"shop": True}, ["shop/", "bank"], 7, True),
        )
    },
    "issued later": token(iat=int(time.time()) + 600),
    "empty sub": token(sub=""),
    "a sub that is two headers": token(sub="alice\r\nx-admin: yes"),
    "a sub with a NUL": token(sub="alice\0"),
    "a sub that is a number": token(sub=7),
    **{
        f"{name} {value!r}": token(KEY, **{name: value})
        for name in ("sub", "client_id", "azp")
        for value in NO_NAMES
    },
    "no scope": token(drop="scope"),
    "another scope": token(scope="orders:reader xorders:read"),
    "another type": token(header={"typ": "logout+jwt"}),
    "crit": token(header={"crit": ["x"], "x": 1}),
    "b64": token(header={"b64": False}),
    "alg none": token(header={"alg": "none"}),
    "alg HS256": token(header={"alg": "HS256"}),
    "padded": token() + "==",
    "two parts": token().rsplit(".", 1)[0],
    "garbage": "garbage",
    "dots": "..",
}


async def test_only_good_tokens_open() -> None:
    async with outside() as client:
        good = token()
        # The second time Envoy knows the token from its cache.
        assert [await client.bearing(good), await client.bearing(good)] == [200, 200]
        assert await client.bearing(token(aud=["bank", "shop-too"])) == 200
        assert await client.bearing(token(exp=time.time() + 86_390.5)) == 200
        assert await client.bearing(token(nbf=time.time() - 1.5, iat=0)) == 200
        assert await client.bearing(token(header={"typ": "JWT"})) == 200
        assert await client.bearing(token(scope="orders:read")) == 200
        assert await client.bearing(token(scope=["orders:read"])) == 200
        assert await client.bearing(token(sub="a" * 255)) == 200
        for name in ("alice", "A", "CN=alice,OU=two  words", "auth0|7", "a~!"):
            named = {"authorization": f"Bearer {token(sub=name, client_id=name, azp='other')}"}
            told = dict((await client.ask("/api/orders/1", headers=named)).json()["headers"])
            assert told["x-watertight-subject"] == told["x-watertight-client"] == name
        for what, bad in BAD_TOKENS.items():
            for _ in range(2):
                assert await client.bearing(bad) in {401, 403}, what
        assert (await client.ask("/api/orders/1")).status_code == 401
        twice = [("authorization", "Bearer x.y.z"), ("authorization", f"Bearer {good}")]
        for headers in (twice, twice[::-1]):
            request = client.client.build_request("GET", "/api/orders/1", headers=headers)
            request.headers["host"] = "shop.example"
            request.extensions["sni_hostname"] = "shop.example"
            assert (await client.client.send(request)).status_code in {401, 403}
        query = await client.ask(f"/api/orders/1?access_token={good}")
        assert query.status_code == 401


@pytest.mark.parametrize("path", ["/rare", "/mine"])
async def test_floods_are_answered_429(path: str) -> None:
    async with outside() as client:
        alice, bob = token(), token(sub="bob")
        seen = [await client.bearing(alice, path) for _ in range(4)]
        assert seen == [200, 200, 429, 429]
        limited = await client.ask(path, headers={"authorization": f"Bearer {alice}"})
        assert limited.headers["retry-after"] == "1800"
        # A bucket per subject is nobody else's; one per address is.
        assert await client.bearing(bob, path) == (200 if path == "/mine" else 429)


async def test_a_withdrawn_key_is_refused_at_once_and_nothing_is_cut() -> None:
    async with outside() as client:
        old, new = token(), token(OTHER_KEY)
        assert [await client.bearing(old), await client.bearing(new)] == [200, 401]
        keys = {"main": json.dumps({"keys": [OTHER_KEY.as_dict(private=False)]})}
        mesh = client.mesh
        listeners = await mesh.admin("gateway", "/stats?filter=listener_manager.listener_added$")
        await mesh.push(compile_envoy(mesh.system, mesh.placement, keys))
        # Envoy had cached its verdict on the old one.
        assert [await client.bearing(old), await client.bearing(new)] == [401, 200]
        again = await mesh.admin("gateway", "/stats?filter=listener_manager.listener_added$")
        assert listeners == again


async def test_the_log_names_no_token_and_no_query() -> None:
    async with outside() as client:
        good = token()
        await client.ask("/api/orders/7?secret=hush", headers={"authorization": f"Bearer {good}"})
        path = client.mesh.placement.proxy_directory("gateway") / "access.log"
        deadline = time.monotonic() + 20
        while not (text := path.read_text()):
            assert time.monotonic() < deadline
            await client.client.get("/")
    line = json.loads(text.splitlines()[0])
    assert line["path"] == "/api/orders/7"
    assert (line["status"], line["subject"], line["to"]) == (200, "alice", "out|orders")
    assert "hush" not in text
    assert good.split(".")[2] not in text
