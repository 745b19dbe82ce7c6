"""Files and names in the environment of services that are perhaps not meant as they stand."""

from pathlib import Path

import pytest

from watertight.control.environments import overridden, secrets_for_all
from watertight.model.load import load_text
from watertight.model.system import System

KEY = "-----BEGIN EC PRIVATE KEY-----\nx\n-----END EC PRIVATE KEY-----\n"
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n"
TEXT = """\
trust_domain: shop.internal
services:
  web: {{run: [./web], directory: {directory}, environment: {{{variable}}}}}
  orders: {{run: [./orders], listens: {{http: 81}}}}
resources:
  orders-db: {{kind: postgresql, database: orders}}
channels:
  - {{from: web, to: orders}}
  - {{from: web, to: orders-db, tables: {{orders: [select]}}}}
"""


def system(variable: str, directory: str = ".") -> System:
    return load_text(TEXT.format(variable=variable, directory=directory))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    files = {
        "secrets/db": "x",
        "db-password.txt": "x",
        "tls/server.key": "x",
        "tls/mixed.pem": CERTIFICATE + KEY,
        "tls/chain.pem": CERTIFICATE,
        "token": "x",
        "tokenizer.json": "{}",
        "src/token.py": "",
        "readme.txt": "",
        ".watertight/data/web/db-password": "x",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path.resolve()


@pytest.mark.parametrize(
    ("variable", "found"),
    [
        ("X: secrets/db", True),
        ("X: ./db-password.txt", True),
        ("X: tls/server.key", True),
        ("X: tls/mixed.pem", True),
        ("TOKEN_FILE: token", True),
        ("DB_PASSWORD_FILE: secrets/not-yet", True),
        ("SECRETS_DIR: secrets", True),
        ("X: tls/chain.pem", False),
        ("X: tokenizer.json", False),
        ("X: src/token.py", False),
        ("X: readme.txt", False),
        ("X: password", False),
        ("X: secrets", False),
        ("DB_PASSWORD_FILE: .watertight/data/web/db-password", False),
        ("DB_PASSWORD_FILE: /etc/shop/db-password", False),
        ("TOKEN_PATH: /oauth/token", False),
        ("TOKEN_URL: 'https://login.example/token'", False),
        ("X: '~nobody/secrets'", False),
        (f"X_FILE: {'a' * 5000}", False),
        (f"X_FILE: {'a' * 300}", False),
    ],
)
def test_a_secret_where_every_service_looks_is_found(
    project: Path, variable: str, found: bool
) -> None:
    flaws = list(secrets_for_all(system(variable), project))
    assert [flaw.code for flaw in flaws] == ["WT-W1481"] * found


def test_a_path_is_read_as_the_program_reads_it(project: Path) -> None:
    assert list(secrets_for_all(system("X: ../secrets/db", "src"), project))
    assert not list(secrets_for_all(system("X: secrets/db", "src"), project))
    assert list(secrets_for_all(system(f"X: {project}/secrets/db", "src"), project))


@pytest.mark.parametrize(
    ("name", "found"),
    [
        *((name, True) for name in ("PATH", "HOME", "ORDERS_URL", "ORDERS_DB_URL", "PGSSLCERT")),
        *((name, True) for name in ("WATERTIGHT_CHANNELS", "SPIFFE_ENDPOINT_SOCKET")),
        *((name, False) for name in ("LANG", "TZ", "USER", "PYTHONUNBUFFERED", "PAYMENTS_URL")),
    ],
)
def test_a_name_that_is_ours_is_found(tmp_path: Path, name: str, found: bool) -> None:
    flaws = list(overridden(system(f"{name}: x"), tmp_path))
    assert [(flaw.code, flaw.path[-1]) for flaw in flaws] == [("WT-W1483", name)] * found
