"""A key set is checked before it is believed."""

import json
from pathlib import Path
from typing import Any

import pytest
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey

from watertight.gateway.keysets import MAX_BYTES, JWKSRefused, check, fetch, fetch_all
from watertight.model.system import Gateway, Issuer, System

ISSUER = Issuer("main", "https://login.example", ("shop",), "jwks.json")
GOOD: dict[str, Any] = {
    **ECKey.generate_key("P-256", private=False).as_dict(),
    "kid": "1",
    "alg": "ES256",
}
X25519 = OKPKey.generate_key("X25519", private=False).as_dict()


def jwks(*keys: dict[str, Any]) -> str:
    return json.dumps({"keys": keys})


def test_a_public_signing_key_is_accepted() -> None:
    assert json.loads(check(ISSUER, jwks(GOOD)))["keys"][0]["kid"] == "1"


REFUSED = [
    ("", "not a JWK Set"),
    ("[]", "not a JWK Set"),
    ('{"keys": 3}', "not a JWK Set"),
    ('{"keys": [], "keys": []}', "not a JWK Set"),
    (jwks(), "holds no key"),
    (jwks(GOOD, GOOD), "repeats the `kid`"),
    (jwks({k: v for k, v in GOOD.items() if k != "kid"}), "has no `kid`"),
    (jwks({k: v for k, v in GOOD.items() if k != "alg"}), "needs an `alg`"),
    (jwks({**GOOD, "alg": "RS256"}), "needs an `alg`"),
    (jwks({**GOOD, "alg": "none"}), "needs an `alg`"),
    (jwks({**GOOD, "use": "enc"}), "not for verifying"),
    (jwks({**GOOD, "key_ops": ["sign"]}), "not for verifying"),
    (jwks({**GOOD, "x": "AA"}), "malformed"),
    (jwks({**ECKey.generate_key("P-256").as_dict(private=True), "kid": "2"}), "private"),
    (jwks({**OctKey.generate_key(256).as_dict(private=True), "kid": "3"}), "'oct'"),
    ("[" * MAX_BYTES, "not a JWK Set"),
    (jwks({**GOOD, "kty": ["EC"]}), "cannot sign"),
    (jwks({**GOOD, "alg": ["ES256"]}), "needs an `alg`"),
    (jwks({**GOOD, "alg": "ES384"}), "the curve 'P-256', with which ES384 does not sign"),
    (jwks({**GOOD, "crv": ["P-256"]}), "does not sign"),
    (jwks({**X25519, "kid": "4", "alg": "EdDSA"}), "the curve 'X25519'"),
    (jwks({**GOOD, "key_ops": 5}), "not for verifying"),
    (jwks({**GOOD, "key_ops": "verify"}), "not for verifying"),
]


# Named by the reasons: the keys in the texts differ from one process to the next.
@pytest.mark.parametrize(("text", "reason"), REFUSED, ids=[reason for _, reason in REFUSED])
def test_what_must_not_be_believed_is_refused(text: str, reason: str) -> None:
    with pytest.raises(JWKSRefused, match=reason):
        check(ISSUER, text)


@pytest.mark.filterwarnings("ignore")
def test_a_short_rsa_key_is_refused() -> None:
    short = {**RSAKey.generate_key(1024, private=False).as_dict(), "kid": "s", "alg": "RS256"}
    with pytest.raises(JWKSRefused, match="too short"):
        check(ISSUER, jwks(short))


async def test_a_missing_or_huge_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(JWKSRefused, match="No such file"):
        await fetch(ISSUER, tmp_path)
    (tmp_path / "jwks.json").write_text(" " * (MAX_BYTES + 1))
    with pytest.raises(JWKSRefused, match="larger than"):
        await fetch(ISSUER, tmp_path)


@pytest.mark.parametrize("host", ["xn--", "1.2.3.999", "[v1.x]"])
async def test_a_host_that_is_no_name_is_refused_like_one_that_does_not_answer(
    tmp_path: Path, host: str
) -> None:
    issuer = Issuer("main", "https://login.example", ("shop",), f"https://{host}/")
    with pytest.raises(JWKSRefused, match="cannot be fetched"):
        await fetch(issuer, tmp_path)


async def test_an_unreachable_issuer_keeps_its_last_good_set(tmp_path: Path) -> None:
    system = System("shop", gateway=Gateway("h", (), issuers={"main": ISSUER}))
    keys, refusals = await fetch_all(system, tmp_path, {"main": "last"})
    assert keys == {"main": "last"}
    assert len(refusals) == 1
    keys, _ = await fetch_all(system, tmp_path, {})
    assert keys == {}
