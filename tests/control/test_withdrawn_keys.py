"""An issuer's word that a key is no longer good, at a gateway that runs, from a server over TLS."""

import asyncio
import ssl
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from joserfc import jwt
from joserfc.jwk import ECKey

from tests.folders import public_folder
from tests.gateway.certified import certified
from tests.gateway.providers import jwks
from tests.planes import sealed
from tests.ports import free_port
from watertight.control.issuers import facts
from watertight.control.plane import ControlPlane
from watertight.gateway import fetching

HOST = "shop.example"
OLD, NEW = (ECKey.generate_key("P-256", {"kid": kid, "alg": "ES256"}) for kid in ("old", "new"))
ENCRYPTION = {**NEW.as_dict(private=False), "use": "enc"}
DECLARATION = """\
trust_domain: shop.internal
services:
  web:
    run: [{python}, -m, http.server, "8081", --bind, 127.0.0.1]
    listens: {{http: 8081}}
gateway:
  hostname: shop.example
  listen: 127.0.0.1:{port}
  issuers:
    main: {{issuer: "https://login.example", audiences: [shop], jwks: "{url}"}}
  routes:
    - {{path: /, to: web, require: {{issuer: main}}}}
"""


@dataclass
class Provider:
    """An identity provider whose answer can be changed."""

    body: str
    status: str = "200 OK"
    hangs: bool = False

    async def respond(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if not self.hangs:
            head = f"HTTP/1.1 {self.status}\r\ncontent-length: {len(self.body)}\r\n\r\n"
            writer.write((head + self.body).encode())
            await writer.drain()
            writer.close()


def serves(*keys: ECKey) -> str:
    return jwks(*(key.as_dict(private=False) for key in keys))


@asynccontextmanager
async def provided(directory: Path) -> AsyncIterator[tuple[Provider, str]]:
    chain, key, ca = certified("localhost")
    (directory / "ca.pem").write_bytes(ca.public_bytes(Encoding.PEM))
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (directory / "server.pem").write_bytes(pem + chain.public_bytes(Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "server.pem")
    provider = Provider(serves(OLD))
    server = await asyncio.start_server(provider.respond, "127.0.0.1", 0, ssl=context)
    async with server:
        yield provider, f"https://localhost:{server.sockets[0].getsockname()[1]}/keys"


class Gateway:
    """What comes of a token there."""

    def __init__(self, plane: ControlPlane, port: int) -> None:
        self.context = ssl.create_default_context(
            cadata=plane.keeper.bundle().pem().decode(),
        )
        self.url = f"https://127.0.0.1:{port}/"

    async def status(self, key: ECKey) -> int:
        now = int(time.time())
        claims = {"iss": "https://login.example", "aud": "shop", "sub": "a", "exp": now + 300}
        token = jwt.encode({"alg": "ES256", "kid": key.kid}, claims, key, algorithms=["ES256"])
        async with httpx.AsyncClient(verify=self.context) as client:
            answer = await client.get(
                self.url,
                headers={"authorization": f"Bearer {token}", "host": HOST},
                extensions={"sni_hostname": HOST},
            )
        return answer.status_code


async def test_an_issuer_withdraws_its_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    with public_folder() as project:
        async with provided(tmp_path) as (provider, url):
            port = free_port("127.0.0.1")
            file = project / "watertight.yaml"
            file.write_text(DECLARATION.format(python=sys.executable, port=port, url=url))
            async with sealed(file) as plane:
                told: list[str] = []
                plane.say = told.append
                gateway = Gateway(plane, port)
                assert await gateway.status(OLD) == 200

                # Nothing that is not its word: an error, no JSON, no set, silence.
                monkeypatch.setattr(fetching, "STEP_SECONDS", 0.2)
                for body, status in (
                    ("", "503 Service Unavailable"),
                    ("", "404 Not Found"),
                    ('{"keys": [', "200 OK"),
                    ("{}", "200 OK"),
                    ("", "200 OK"),
                    ('{"keys": null}', "200 OK"),
                ):
                    provider.body, provider.status = body, status
                    await plane.refresh_keys()
                    assert await gateway.status(OLD) == 200, (body, status)
                provider.hangs = True
                await plane.refresh_keys()
                assert await gateway.status(OLD) == 200
                provider.hangs, provider.status = False, "200 OK"
                assert told == []

                # Another key in its place.
                provider.body = serves(NEW)
                await plane.refresh_keys()
                assert (await gateway.status(OLD), await gateway.status(NEW)) == (401, 200)

                # None; whether the set is empty or what is in it verifies nothing.
                for nothing in (jwks(), jwks(ENCRYPTION)):
                    provider.body = nothing
                    await plane.refresh_keys()
                    assert (await gateway.status(OLD), await gateway.status(NEW)) == (401, 401)
                    [issuer] = facts(plane.key_sets)
                    assert (issuer["keys"], issuer["closed"]) == (0, True)
                    assert "holds no key" in issuer["failure"]
                    assert len(told) == 1
                    assert "every token of this issuer is refused" in told[0]

                # Its outage afterwards brings nothing back; nor does a change, which is possible.
                provider.status = "503 Service Unavailable"
                await plane.refresh_keys()
                assert await gateway.status(NEW) == 401
                provider.status = "200 OK"
                await plane.apply(plane.declared)
                assert await gateway.status(NEW) == 401

                # Who changes something does not wait for the next look.
                provider.body = serves(NEW)
                await plane.apply(plane.declared)
                assert await gateway.status(NEW) == 200
                assert "has keys again" in told[-1]

                # Silence for too long is as if it had none.
                monkeypatch.setattr(fetching, "OUTAGE_SECONDS", -1.0)
                provider.status = "503 Service Unavailable"
                await plane.refresh_keys()
                assert await gateway.status(NEW) == 401
                assert "status 503" in told[-1]
                provider.status = "200 OK"
                await plane.refresh_keys()
                assert await gateway.status(NEW) == 200
