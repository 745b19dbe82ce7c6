"""Other people's problems, as they reported them: each system is brought up by the command itself.

The source of each stands with it. What their authors expected of the peers is expected here.
"""

import contextlib
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey

from tests.cases.edge import Edge
from tests.folders import public_folder
from tests.ports import free_port

REPOSITORY = Path(__file__).resolve().parents[2]
PROGRAMS = Path(__file__).with_name("programs")
DEADLINE_SECONDS = 120.0
NOTHING: Mapping[str, str] = {}

LIMIT = "{per: address, rate: 1000/s}"
GATEWAY = """
trust_domain: case.internal
services:
  web: {{run: [python, web.py], listens: {{http: 9500}}}}
gateway:
  hostname: case.example
  listen: 127.0.0.1:{port}
  max_request_size: 64MiB
  issuers: {{main: {{issuer: https://login.example, audiences: [case], jwks: jwks.json}}}}
  routes:
    - {{path: /api, methods: [OPTIONS], to: web, require: anyone, limit: {limit}}}
    - {{path: /api, to: web, require: {{issuer: main, scopes: ["orders:read"]}}}}
    - {{path: /ws, to: web, timeout: 1h, require: anyone, limit: {limit}}}
    - {{path: /**, methods: [GET, POST], to: web, timeout: 1h, require: anyone, limit: {limit}}}
"""
FILES = """
trust_domain: case.internal
services:
  files: {run: [python, files.py], listens: {http: 9501}}
  reader: {run: [python, reader.py]}
channels:
  - {from: reader, to: files, allow: [GET /files/*, GET /sum]}
"""
DATABASE = """
trust_domain: case.internal
services:
  app: {run: [python, batch.py]}
resources:
  db: {kind: postgresql, database: shop, schema: schema.sql}
channels:
  - {from: app, to: db, tables: {items: [select, insert]}, temporary: true}
"""
FAREWELL = """
trust_domain: case.internal
services:
  ledger: {run: [python, ledger.py], listens: {http: 9503}}
  worker: {run: [python, farewell.py]}
channels:
  - {from: worker, to: ledger, allow: [POST /ready, POST /farewell/*]}
"""
KEY = ECKey.generate_key("P-256", {"kid": "k1", "alg": "ES256", "use": "sig"})


def watertight(project: Path, *words: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "watertight.cli", *words],
        cwd=project,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, f"{words}: {done.stdout}\n{done.stderr}"


@contextlib.contextmanager
def started(project: Path, declaration: str) -> Iterator[None]:
    """The system of a case in a folder, sealed; stopped in the end."""
    shutil.copytree(PROGRAMS, project, dirs_exist_ok=True)
    (project / "watertight.yaml").write_text(declaration)
    try:
        watertight(project, "up", "--detach")
        yield
    finally:
        watertight(project, "down")


@contextlib.contextmanager
def running(declaration: str, files: Mapping[str, str] = NOTHING) -> Iterator[Path]:
    """The folder of a system of its own, with more files in it."""
    with public_folder() as project:
        for name, text in files.items():
            (project / name).write_text(text)
        with started(project, declaration):
            yield project


def until(condition: Callable[[], bool], complaint: str) -> None:
    """Returns once ``condition`` holds."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, complaint
        time.sleep(0.1)


def written(project: Path, service: str) -> Any:
    """What the program of a service wrote down, once it is there."""
    path = project / ".watertight" / "data" / service / "result.json"
    until(path.exists, f"{service} wrote nothing down")
    return json.loads(path.read_text())


@pytest.fixture(scope="module")
def edge() -> Iterator[Edge]:
    port = free_port()
    keys = json.dumps({"keys": [KEY.as_dict(private=False)]})
    with running(GATEWAY.format(port=port, limit=LIMIT), {"jwks.json": keys}) as project:
        yield Edge(port, project / ".watertight" / "ca.pem")


@pytest.fixture(scope="module")
def read() -> Iterator[dict[str, Any]]:
    with running(FILES) as project:
        yield written(project, "reader")


def token(**claims: Any) -> str:
    now = int(time.time())
    said = {"iss": "https://login.example", "aud": "case", "sub": "u1", "iat": now}
    header = {"alg": "ES256", "kid": "k1", "typ": "JWT"}
    return jwt.encode(header, {**said, "exp": now + 600, **claims}, KEY)


def test_a_download_whose_client_closes_is_whole(read: dict[str, Any]) -> None:
    """https://github.com/envoyproxy/envoy/issues/28329"""
    assert {key: str(got) for key, got in read["answers"].items()} == {
        key: key.partition(" ")[0] for key in read["answers"]
    }


def test_trailers_of_an_answer_arrive(read: dict[str, Any]) -> None:
    """https://github.com/envoyproxy/envoy/issues/7149"""
    assert read["trailers"].lower().endswith("\r\nx-checksum: 42\r\n\r\n")


def test_a_redirect_leads_to_the_name_that_was_asked_for(edge: Edge) -> None:
    """https://github.com/cloud-in-a-bottle/cloud-in-a-bottle/pull/264"""
    assert "\r\nlocation: https://case.example/new\r\n" in edge.get("/old")
    assert edge.status("/live", "origin: https://case.example") == 200
    assert edge.status("/live", "origin: https://other.example") == 403


def test_the_scheme_of_a_token_has_no_case(edge: Edge) -> None:
    """https://github.com/istio/istio/issues/22608"""
    good = token(scope="orders:read")
    answers = [
        edge.status("/api", f"authorization: {word} {good}")
        for word in ("Bearer", "bearer", "BEARER")
    ]
    assert answers == [200, 200, 200]


def test_scopes_are_found_where_issuers_write_them(edge: Edge) -> None:
    """https://github.com/envoyproxy/gateway/issues/8027"""
    said: list[dict[str, Any]] = [
        {"scope": "a orders:read"},
        {"scp": ["orders:read"]},
        {"scp": "a orders:read"},
        {"scp": ["orders:read-not"]},
    ]
    answers = [edge.status("/api", f"authorization: Bearer {token(**claims)}") for claims in said]
    assert answers == [200, 200, 200, 403]


def test_a_name_with_a_final_dot_is_the_same_name(edge: Edge) -> None:
    """https://github.com/istio/istio/issues/18904"""
    same = ("case.example", "CASE.example:8443", "case.example.", "case.example.:8443")
    assert [edge.status("/page", host=host) for host in same] == [200] * 4
    assert edge.status("/page", host="other.example.") == 421


@pytest.mark.slow
def test_a_slow_upload_goes_through(edge: Edge) -> None:
    """https://github.com/project-koku/koku-service-operator/pull/70"""
    with edge.connect() as connection:
        connection.sendall(
            b"POST /in HTTP/1.1\r\nhost: case.example\r\ncontent-length: 700000\r\n\r\n"
        )
        for _ in range(70):
            connection.sendall(b"z" * 10_000)
            time.sleep(1)
        assert connection.recv(4096).startswith(b"HTTP/1.1 200 ")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_quiet_websocket_stays(edge: Edge) -> None:
    """https://github.com/pomerium/pomerium/pull/1744"""
    upgrade = (
        "GET /ws HTTP/1.1",
        "host: case.example",
        "connection: Upgrade",
        "upgrade: websocket",
        "sec-websocket-version: 13",
        "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
    )
    with edge.connect() as connection:
        connection.sendall(("\r\n".join(upgrade) + "\r\n\r\n").encode())
        assert b" 101 " in connection.recv(4096)
        connection.settimeout(330)
        with pytest.raises(TimeoutError):
            connection.recv(10)
        connection.settimeout(20)
        connection.sendall(b"still here")
        assert connection.recv(100) == b"still here"


def test_a_batch_goes_by_way_of_a_temporary_table() -> None:
    """https://github.com/CartoDB/cartodb-postgresql/issues/366"""
    schema = "CREATE TABLE IF NOT EXISTS items (id int, name text);\n"
    with running(DATABASE, {"schema.sql": schema}) as project:
        assert written(project, "app") == "[(1,)]"


def test_what_a_service_says_while_it_ends_arrives() -> None:
    """https://github.com/istio/istio/issues/7136"""
    with public_folder() as project:
        told = project / ".watertight" / "data" / "ledger" / "told.txt"
        with started(project, FAREWELL):
            until(told.exists, "the worker never came up")
        assert told.read_text().split() == ["/ready", "/farewell/0", "/farewell/1", "/farewell/2"]
