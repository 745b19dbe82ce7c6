"""What real Envoys make of the key sets that providers serve, after they were checked."""

import base64
import hashlib
import hmac
import json
import ssl
import time
from collections.abc import Mapping
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from joserfc import jwt
from joserfc.jwk import ECKey, OKPKey, RSAKey

from tests.gateway.providers import EC, ED, SETS, jwks, rsa
from tests.mesh import running_mesh
from watertight.gateway.keysets import check
from watertight.model.system import (
    Gateway,
    Issuer,
    Listen,
    Protocol,
    Requirement,
    Route,
    Service,
    System,
)

ISSUERS = {
    name: Issuer(name, f"https://{name}.example", ("shop",), f"{name}.json") for name in SETS
}
ROUTES = tuple(Route(f"/{name}", "orders", require=Requirement(name)) for name in SETS)
SHOP = System(
    "shop.internal",
    services={"orders": Service("orders", listens=Listen(Protocol.HTTP, 1))},
    gateway=Gateway("shop.example", ROUTES, issuers=ISSUERS),
)
KEYS = {name: check(ISSUERS[name], jwks(*serve())).keys for name, (serve, *_) in SETS.items()}
FIRST = {name: serve()[0]["kid"] for name, (serve, *_) in SETS.items()}
ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"]


def claims(issuer: str) -> dict[str, Any]:
    now = int(time.time())
    return {
        "iss": f"https://{issuer}.example",
        "aud": "shop",
        "sub": "a",
        "iat": now,
        "exp": now + 300,
    }


def token(issuer: str, key: RSAKey | ECKey | OKPKey, algorithm: str, kid: str = "") -> str:
    header = {"alg": algorithm, **({"kid": kid} if kid else {})}
    return jwt.encode(header, claims(issuer), key, algorithms=ALGORITHMS)


def confused(issuer: str, kid: str, secret: bytes) -> str:
    """HS256 with a public key for a secret."""

    def part(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    header: Mapping[str, str] = {"alg": "HS256", "kid": kid}
    signed = ".".join(part(json.dumps(each).encode()) for each in (header, claims(issuer)))
    mac = hmac.digest(secret, signed.encode(), hashlib.sha256)
    return f"{signed}.{part(mac)}"


@pytest.mark.filterwarnings("ignore:EdDSA is deprecated")
async def test_tokens_of_every_provider_are_judged_right() -> None:
    spki = rsa(0).public_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    enc = rsa(1)
    async with running_mesh(SHOP, keys=KEYS) as mesh:
        assert mesh.system.gateway is not None
        context = ssl.create_default_context(cadata=mesh.identities.bundle().pem().decode())
        base = f"https://127.0.0.1:{mesh.system.gateway.port}"
        async with httpx.AsyncClient(base_url=base, verify=context) as client:

            async def worth(issuer: str, token: str) -> int:
                request = client.build_request(
                    "GET",
                    f"/{issuer}",
                    headers={"host": "shop.example", "authorization": f"Bearer {token}"},
                    extensions={"sni_hostname": "shop.example"},
                )
                return (await client.send(request)).status_code

            for issuer, kid in FIRST.items():
                assert await worth(issuer, token(issuer, rsa(0), "RS256", kid)) == 200, issuer
                for secret in (spki, spki.strip(), rsa(0).as_bytes(private=False)):
                    assert await worth(issuer, confused(issuer, kid, secret)) == 401, issuer
            # The key for encryption verifies nothing, whatever it is called.
            for kid in ("kc-enc", "kc-sig", ""):
                assert await worth("keycloak", token("keycloak", enc, "RS256", kid)) == 401
            # One that is pinned to RS256 verifies nothing else; one without `alg`, its kin.
            assert await worth("okta", token("okta", rsa(0), "PS256", "o_-0")) == 401
            for algorithm in ("RS512", "PS256", "PS384"):
                made = token("entra", rsa(0), algorithm, FIRST["entra"])
                assert await worth("entra", made) == 200, algorithm
            assert await worth("mixed", token("mixed", EC, "ES256", "m-ec")) == 200
            assert await worth("mixed", token("mixed", ED, "EdDSA", "m-ed")) == 200
            for kid in ("m-ops", "m-alg"):
                assert await worth("mixed", token("mixed", enc, "RS256", kid)) == 401
