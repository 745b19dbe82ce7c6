"""The demo's login service: its key stays private, its tokens are what the gateway wants."""

import importlib.util
import json
import stat
from pathlib import Path
from types import ModuleType

import pytest
from joserfc import jwt
from joserfc.jwk import KeySet

from tests.examples.plain import declaration


def load(name: str) -> ModuleType:
    """A program of the shop, as a module."""
    spec = importlib.util.spec_from_file_location(
        f"shop_{name}", declaration("shop").with_name(f"{name}.py")
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = load("login")
    monkeypatch.setattr(module, "SIGNING_KEY", tmp_path / "login" / "signing-key.json")
    monkeypatch.setattr(module, "JWKS", tmp_path / "jwks.json")
    return module


def test_the_public_set_verifies_its_tokens_and_holds_no_secret(login: ModuleType) -> None:
    public = json.loads(login.prepare().read_text())
    assert all("d" not in key for key in public["keys"])
    token = jwt.decode(login.token("orders:read", "orders:write"), KeySet.import_key_set(public))
    assert token.claims["iss"] == "https://login.shop.example"
    assert token.claims["aud"] == "shop"
    assert token.claims["scope"] == "orders:read orders:write"
    assert 0 < token.claims["exp"] - token.claims["iat"] <= 300
    assert token.header["typ"] == "at+jwt"


def test_the_key_lies_outside_what_the_services_may_read() -> None:
    project = declaration("shop").parent
    assert not load("login").SIGNING_KEY.is_relative_to(project)


def test_the_key_is_made_once_and_for_its_owner_only(login: ModuleType) -> None:
    first = login.signing_key().thumbprint()
    assert login.signing_key().thumbprint() == first
    assert stat.S_IMODE(login.SIGNING_KEY.stat().st_mode) == 0o600
    assert stat.S_IMODE(login.SIGNING_KEY.parent.stat().st_mode) == 0o700
