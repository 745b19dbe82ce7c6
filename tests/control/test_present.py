"""What the declaration names and this machine has not is found, each at its own place."""

import datetime as dt
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID
from joserfc.jwk import ECKey

from watertight.control import present
from watertight.control.present import as_warning, missing
from watertight.enforcers.resource import ServerMissing
from watertight.model import codes
from watertight.model.findings import Severity
from watertight.model.load import load_text
from watertight.model.rules import Flaw
from watertight.servers.postgresql.enforcer import PostgreSQLEnforcer

RIGHT = """\
trust_domain: shop.internal
services:
  web: {run: [python, web.py], directory: web, listens: {http: 80}}
  orders: {run: [./orders], listens: {http: 81}, contract: orders.json}
resources:
  db: {kind: postgresql, database: orders, schema: schema.sql}
channels:
  - {from: web, to: orders, allow: [GET /x]}
  - {from: orders, to: db, tables: {orders: [select]}}
gateway:
  hostname: shop.example
  certificate: tls/chain.pem
  private_key: tls/key.pem
  issuers:
    main: {issuer: https://login.example, audiences: [shop], jwks: jwks.json}
  routes:
    - {path: /, to: web, require: {issuer: main}}
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Where everything is as the declaration says."""
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "web.py").touch()
    (tmp_path / "orders").write_text("#!/bin/sh\n")
    (tmp_path / "orders").chmod(0o755)
    (tmp_path / "orders.json").write_text("{}")
    (tmp_path / "schema.sql").write_text("CREATE TABLE orders ();")
    (tmp_path / "tls").mkdir()
    certify(tmp_path, "shop.example")
    key = ECKey.generate_key("P-256", {"kid": "1", "alg": "ES256"}).as_dict(private=False)
    (tmp_path / "jwks.json").write_text(json.dumps({"keys": [key]}))
    return tmp_path


def certify(project: Path, hostname: str, *, days: int = 30) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hostname)])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=60))
        .not_valid_after(now + dt.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(hostname)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (project / "tls" / "chain.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (project / "tls" / "key.pem").write_bytes(pem)


def found(project: Path, text: str = RIGHT) -> list[Flaw]:
    return list(missing(load_text(text), project, project / "run"))


def test_where_all_is_there_nothing_is_found(project: Path) -> None:
    assert found(project) == []


def remove(name: str) -> Callable[[Path], None]:
    return lambda project: (project / name).unlink()


def write(name: str, text: str) -> Callable[[Path], object]:
    return lambda project: (project / name).write_text(text)


def misname(name: str) -> Callable[[Path], object]:
    return lambda project: (project / name).rename(project / f"{name}2")


def remove_the_directory(project: Path) -> None:
    (project / "web" / "web.py").unlink()
    (project / "web").rmdir()
    (project / "webb").mkdir()


@pytest.mark.parametrize(
    ("spoil", "code", "path", "says"),
    [
        (remove_the_directory, codes.DIRECTORY_MISSING, "directory", "Did you mean `webb`?"),
        (remove("web/web.py"), codes.FILE_MISSING, "run", "`web.py`, which `python` is to run"),
        (remove("orders"), codes.PROGRAM_MISSING, "run", "Did you mean `./orders.json`?"),
        (lambda p: (p / "orders").chmod(0o644), codes.PROGRAM_MISSING, "run", "chmod +x"),
        (write("orders", "#!/bin/bsh\n"), codes.PROGRAM_MISSING, "run", "asks for /bin/bsh"),
        (remove("schema.sql"), codes.FILE_MISSING, "schema", "`schema.sql` of `db` is not there"),
        (remove("jwks.json"), codes.FILE_MISSING, "jwks", "`jwks.json` of the issuer `main`"),
        (write("jwks.json", "{}"), codes.KEY_SET_REFUSED, "jwks", "is not a JWK Set"),
        (remove("tls/chain.pem"), codes.FILE_MISSING, "certificate", "`tls/chain.pem` is not"),
        (misname("tls/chain.pem"), codes.FILE_MISSING, "certificate", "mean `tls/chain.pem2`?"),
        (remove("tls/key.pem"), codes.FILE_MISSING, "private_key", "`tls/key.pem` is not there"),
        (write("tls/key.pem", "x"), codes.CERTIFICATE_REFUSED, "certificate", "PEM pair"),
        (
            lambda p: certify(p, "other.example"),
            codes.CERTIFICATE_REFUSED,
            "certificate",
            "does not name shop.example",
        ),
        (
            lambda p: certify(p, "shop.example", days=-1),
            codes.CERTIFICATE_REFUSED,
            "certificate",
            "it ended at",
        ),
    ],
)
def test_what_is_missing_is_said_at_its_key(
    project: Path, spoil: Callable[[Path], object], code: str, path: str, says: str
) -> None:
    spoil(project)
    [flaw] = found(project)
    assert (flaw.code, flaw.severity) == (code, Severity.ERROR)
    assert path in flaw.path
    assert says in f"{flaw.message} {flaw.remedy}"


def test_a_contract_that_is_missing_stops_nothing(project: Path) -> None:
    """Nothing reads it when the system runs."""
    (project / "orders.json").unlink()
    [flaw] = found(project)
    assert (flaw.code, flaw.severity) == (codes.FILE_MISSING_HERE, Severity.WARNING)


@pytest.mark.parametrize(
    ("run", "says"),
    [
        ("[no-such-program-at-all]", "looked in"),
        ("[pythn3]", "Did you mean `python3`?"),
        ("[orders]", "write `./orders`"),
        ("[web/]", "is a directory"),
        ("[bin/orders]", "bin is not there"),
    ],
)
def test_a_program_that_cannot_be_found_is_told_with_what_may_help(
    project: Path, run: str, says: str
) -> None:
    [flaw] = found(project, RIGHT.replace("[./orders]", run))
    assert flaw.code == codes.PROGRAM_MISSING
    assert says in f"{flaw.message} {flaw.remedy}"


@pytest.mark.parametrize("run", ["[python, -m, http.server]", "[python, web]", "[sh, -c, exit]"])
def test_what_is_no_name_of_a_file_is_not_looked_for(project: Path, run: str) -> None:
    assert found(project, RIGHT.replace("[./orders]", run)) == []


def test_the_keys_of_an_issuer_whom_no_route_asks_for_are_not_needed(project: Path) -> None:
    (project / "jwks.json").unlink()
    text = RIGHT.replace("require: {issuer: main}", "require: anyone")
    assert found(project, text) == []


def test_a_server_that_is_not_installed_is_found(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def locate(*_: object) -> None:
        raise ServerMissing("db needs PostgreSQL.", remedy="Install it.")

    monkeypatch.setattr(PostgreSQLEnforcer, "locate", locate)
    [flaw] = found(project)
    assert (flaw.code, flaw.path) == (codes.SERVER_MISSING, ("resources", "db"))
    elsewhere = RIGHT.replace("database: orders,", "database: orders, external: db.example,")
    assert found(project, elsewhere.replace(", schema: schema.sql", "")) == []


def test_elsewhere_each_is_a_warning_with_a_code_of_its_own() -> None:
    errors = {code for code in vars(codes).values() if str(code).startswith("WT-E144")}
    assert set(present._WARNINGS) <= errors
    for code in present._WARNINGS:
        warning = as_warning(Flaw(code, (), "x"))
        assert (warning.code, warning.severity) == (code.replace("E", "W", 1), Severity.WARNING)


def test_a_command_in_one_word_is_told_how_to_split_it(project: Path) -> None:
    """No shell takes it apart."""
    text = RIGHT_IN_ONE_WORD
    [flaw] = missing(load_text(text), project, project / "run")
    assert flaw.code == codes.PROGRAM_MISSING
    assert flaw.remedy == 'Split it into words: `run: [node, ok.js, "3001"]`.'


RIGHT_IN_ONE_WORD = """\
trust_domain: shop.internal
services: {web: {run: ["node ok.js 3001"]}}
"""
