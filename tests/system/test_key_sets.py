"""``up``, ``apply`` and ``status`` with the key sets of issuers as they really are."""

import json
import os
import signal
import ssl
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import httpx
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from joserfc import jwt
from joserfc.jwk import ECKey

from tests.folders import public_folder
from tests.gateway.certified import certified
from tests.gateway.providers import jwks, keycloak
from tests.ports import free_port
from tests.system.running import RunningSystem
from watertight.attack.probe import Verdict

QUIET = """\
trust_domain: small.internal
services:
  web:
    run: [python, -m, http.server, "8081"]
    listens: {http: 8081}
gateway:
  hostname: small.example
  listen: 127.0.0.1:PORT
  issuers:
    main:
      issuer: https://login.example
      audiences: [small]
      jwks: JWKS
  routes:
    - {path: /, to: web, require: {issuer: main}}
"""


def declare(project: Path, key_set: str, port: int) -> None:
    file = project / "watertight.yaml"
    file.write_text(QUIET.replace("JWKS", key_set).replace("PORT", str(port)))
    file.chmod(0o644)


@pytest.fixture
def system() -> Iterator[RunningSystem]:
    with public_folder() as project:
        yield RunningSystem(project, as_root=os.geteuid() == 0)


def shows_it(said: str) -> bool:
    """Whether an error says the reason, with the mark under the URL."""
    assert "error WT-E1443" in said
    assert "connection refused" in said
    assert "Traceback" not in said
    lines = said.splitlines()
    [marked] = [number for number, line in enumerate(lines) if line.rstrip().endswith("^")]
    return lines[marked - 1].find("https://127.0.0.1") == lines[marked].find("^")


def test_why_a_key_set_cannot_be_had_is_told_at_its_place(system: RunningSystem) -> None:
    gateway, nobody = free_port(), f"https://127.0.0.1:{free_port()}/keys"
    declare(system.project, nobody, gateway)
    for options in ((), ("--detach",)):
        assert shows_it(system.watertight("up", str(system.project), *options, expect=3).stderr)

    (system.project / "jwks.json").write_text(jwks(*keycloak()))
    declare(system.project, "jwks.json", gateway)
    said = system.watertight("up", str(system.project), "--detach")
    try:
        text = system.watertight("status", str(system.project)).stdout
        assert "Issuer main: 1 key\n  left out: key `kc-enc` is for encryption" in text
        [issuer] = system.status()["gateway"]["issuers"]
        assert issuer["skipped"] == ["key `kc-enc` is for encryption"]

        declare(system.project, nobody, gateway)
        assert shows_it(system.watertight("apply", str(system.project), expect=3).stderr)
    finally:
        system.watertight("down", str(system.project))
    assert said.returncode == 0


def test_an_issuer_whose_key_nobody_has_can_be_proven_in_part(system: RunningSystem) -> None:
    (system.project / "jwks.json").write_text(jwks(*keycloak()))
    declare(system.project, "jwks.json", free_port())
    system.watertight("up", str(system.project), "--detach")
    verify = ("verify", str(system.project), "-o", "json")
    try:
        wrong = system.watertight(*verify, "--token-key", "mian=x", expect=2)
        assert "There is no issuer `mian`" in wrong.stderr
        stranger = ECKey.generate_key("P-256").as_dict(private=True)
        for key, what in (
            (stranger, "is none of the keys in jwks.json"),
            ({}, "does not sign"),
            ([], "is no JWK"),
        ):
            (system.project / "key.json").write_text(json.dumps(key))
            lent = ("--token-key", f"main={system.project}/key.json")
            assert what in system.watertight(*verify, *lent, expect=2).stderr
        only = ("--only", "token.*")
        whole = json.loads(system.watertight(*verify, *only, expect=1).stdout)
        part = json.loads(system.watertight(*verify, "--without-tokens").stdout)
    finally:
        system.watertight("down", str(system.project))
    unknown = [r for r in whole["probes"] if r["verdict"] == Verdict.NOT_RUN.value]
    assert unknown
    assert all("--token-key main=FILE" in r["observed"] for r in unknown)
    tried = {r["id"] for r in part["probes"]}
    assert {"token.none", "token.garbage", "token.unsigned", "token.wrong-key"} <= tried
    assert {r["verdict"] for r in part["probes"]} == {Verdict.HELD.value}
    assert not tried & {r["id"] for r in unknown}
    gaps = " ".join(g["what"] for g in part["not_attacked"] if "--without-tokens" in g["what"])
    assert all(r["id"] in gaps for r in unknown)


class Provider(ThreadingHTTPServer):
    """An issuer's key set over TLS, which can be changed."""

    body = b""

    def __init__(self, directory: Path) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        chain, key, ca = certified("localhost")
        (directory / "ca.pem").write_bytes(ca.public_bytes(Encoding.PEM))
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (directory / "server.pem").write_bytes(pem + chain.public_bytes(Encoding.PEM))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(directory / "server.pem")
        self.socket = context.wrap_socket(self.socket, server_side=True)


class Answers(BaseHTTPRequestHandler):
    """A provider's only page."""

    server: Provider

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-length", str(len(self.server.body)))
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


def status_with(key: ECKey, ca: Path, port: int) -> int:
    """What the gateway answers to a token signed with that key."""
    now = int(time.time())
    claims = {"iss": "https://login.example", "aud": "small", "sub": "a", "exp": now + 300}
    token = jwt.encode({"alg": "ES256", "kid": "1"}, claims, key, algorithms=["ES256"])
    headers = {"authorization": f"Bearer {token}", "host": "small.example"}
    with httpx.Client(verify=ssl.create_default_context(cafile=str(ca)), headers=headers) as client:
        url, named = f"https://127.0.0.1:{port}/", {"sni_hostname": "small.example"}
        return client.get(url, extensions=named).status_code


def test_who_takes_over_what_runs_takes_an_empty_set_for_its_word(
    system: RunningSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys stay as they are while the control process is dead, and no longer."""
    key, port, project = ECKey.generate_key("P-256"), free_port(), str(system.project)
    with public_folder() as directory, Provider(directory) as provider:
        provider.body = jwks({**key.as_dict(private=False), "kid": "1"}).encode()
        Thread(target=provider.serve_forever, daemon=True).start()
        monkeypatch.setenv("SSL_CERT_FILE", str(directory / "ca.pem"))
        declare(system.project, f"https://localhost:{provider.server_port}/keys", port)
        system.watertight("up", project, "--detach")
        try:
            ca = system.state / "ca.pem"
            assert status_with(key, ca, port) == 200
            os.kill(system.control_pid(), signal.SIGKILL)
            provider.body = jwks().encode()
            assert status_with(key, ca, port) == 200
            system.watertight("up", project, "--detach")
            assert status_with(key, ca, port) == 401
            told = system.watertight("status", project)
            assert "Issuer main: 0 keys, closed" in told.stdout
            said = " ".join(told.stderr.split())
            assert "holds no key" in said
            assert "Until there is a key again, every token of it is refused (401)." in said
        finally:
            system.watertight("down", project)
            provider.shutdown()
