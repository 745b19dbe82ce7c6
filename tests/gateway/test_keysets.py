"""A key set is checked before it is believed; a key that cannot be used spoils no other."""

import json
from typing import Any

import pytest
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey

from tests.gateway.providers import SETS, jwks, mixed, public, rsa
from watertight.gateway.keysets import MOST_KEYS, JWKSRefused, check
from watertight.model.system import Issuer

ISSUER = Issuer("main", "https://login.example", ("shop",), "jwks.json")
GOOD: dict[str, Any] = {
    **ECKey.generate_key("P-256", private=False).as_dict(),
    "kid": "1",
    "alg": "ES256",
}
X25519 = OKPKey.generate_key("X25519", private=False).as_dict()
SECRET = "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlYw"
PRIVATE = ECKey.generate_key("P-256").as_dict(private=True)


@pytest.mark.parametrize("provider", SETS)
def test_what_providers_serve_is_accepted(provider: str) -> None:
    serve, usable, skipped = SETS[provider]
    checked = check(ISSUER, jwks(*serve()))
    assert (checked.count, len(checked.skipped)) == (usable, skipped)
    assert len(json.loads(checked.keys)["keys"]) == usable


def test_which_keys_are_left_out_is_said_with_the_reason() -> None:
    said = " ".join(check(ISSUER, jwks(*SETS["keycloak"][0](), *mixed())).skipped)
    for part in ("`kc-enc` is for encryption", "`m-oct` is symmetric", "`m-k1` has the curve"):
        assert part in said
    assert "`m-ops` is not for verifying" in said
    assert "`m-alg` is for `RSA-OAEP-256`, not for RS256" in said


def test_only_what_verifies_reaches_the_proxy() -> None:
    checked = check(ISSUER, jwks(*mixed(), {**GOOD, "alg": "ES256", "x5c": ["MII"]}))
    by_kid = {key["kid"]: key for key in json.loads(checked.keys)["keys"]}
    assert set(by_kid) == {"m-rsa", "m-ec", "m-ed", "1"}
    assert "x5c" not in by_kid["1"]
    assert (by_kid["m-ec"]["alg"], by_kid["m-ed"]["alg"]) == ("ES256", "EdDSA")
    assert "alg" not in by_kid["m-rsa"]


def test_a_key_without_a_kid_or_with_one_used_twice_is_used() -> None:
    """Section 4.5: it is optional, and keys of different types may share one."""
    bare = {k: v for k, v in GOOD.items() if k != "kid"}
    assert check(ISSUER, jwks(bare)).count == 1
    assert check(ISSUER, jwks(GOOD, public(rsa(), kid="1", alg="RS256"))).count == 2


UNUSABLE = [
    ({**GOOD, "alg": "RS256"}, "is for `RS256`, not for ES256"),
    ({**GOOD, "alg": "none"}, "is for `none`"),
    ({**GOOD, "alg": "HS256"}, "is for `HS256`"),
    ({**GOOD, "alg": None}, "is for nothing"),
    ({**GOOD, "alg": ["ES256"]}, "not for ES256"),
    ({**GOOD, "alg": "ES384"}, "is for `ES384`, not for ES256"),
    ({**GOOD, "use": "enc"}, "is for encryption"),
    ({**GOOD, "use": ["sig"]}, "not signatures"),
    ({**GOOD, "key_ops": ["sign"]}, "not for verifying"),
    ({**GOOD, "key_ops": 5}, "not for verifying"),
    ({**GOOD, "key_ops": "verify"}, "not for verifying"),
    ({**GOOD, "x": "AA"}, "malformed"),
    ({k: v for k, v in GOOD.items() if k != "y"}, "malformed"),
    ({**GOOD, "x": 5}, "malformed"),
    ({**GOOD, "kid": 5}, "`kid` that is not text"),
    ({**GOOD, "kid": "\ud800"}, "`kid` that is not Unicode"),
    ({**PRIVATE, "kid": "2"}, "is a private key"),
    ({"kty": "oct", "k": SECRET, "kid": "3", "alg": "HS256"}, "`oct`"),
    ({**GOOD, "kty": ["EC"]}, "signs no token"),
    ({**GOOD, "kty": "ec"}, "signs no token"),
    ({k: v for k, v in GOOD.items() if k != "kty"}, "signs no token"),
    ({**GOOD, "crv": ["P-256"]}, "has the curve"),
    ({**X25519, "kid": "4", "alg": "EdDSA"}, "the curve `X25519`"),
    ({**public(rsa()), "e": "AQAD"}, "malformed|exponent"),
    ({**public(rsa()), "alg": "HS256"}, "is for `HS256`"),
    ("text", "is not an object"),
]


# Named by the reasons: the keys in the texts differ from one process to the next.
@pytest.mark.parametrize(("key", "reason"), UNUSABLE, ids=[reason for _, reason in UNUSABLE])
def test_an_unusable_key_is_refused_alone_and_left_out_beside_another(
    key: Any, reason: str
) -> None:
    says = f"no key that verifies tokens: .*(?:{reason})"
    with pytest.raises(JWKSRefused, match=says) as refused:
        check(ISSUER, jwks(key))
    assert SECRET not in str(refused.value)
    assert str(PRIVATE["d"]) not in str(refused.value)
    checked = check(ISSUER, jwks(key, {**GOOD, "kid": "good"}))
    assert [key["kid"] for key in json.loads(checked.keys)["keys"]] == ["good"]
    assert len(checked.skipped) == 1


REFUSED = [
    ("", "not JSON"),
    ("<html>", "not JSON .line 1, column 1., so not a JWK Set"),
    ("[]", "is a list, not a JWK Set"),
    ('{"keys": 3}', "has no list `keys`"),
    ('{"keys": [], "keys": []}', "names a member twice"),
    (jwks(), "holds no key"),
    (json.dumps({"keys": [GOOD] * (MOST_KEYS + 1)}), "more than"),
    ("[" * 200_000, "nested too deep"),
    ("-----BEGIN PUBLIC KEY-----", "is PEM"),
    ('{"issuer": "https://login.example", "jwks_uri": "https://x"}', "`jwks_uri`"),
]


@pytest.mark.parametrize(("text", "reason"), REFUSED, ids=[reason for _, reason in REFUSED])
def test_what_is_no_key_set_is_refused(text: str, reason: str) -> None:
    with pytest.raises(JWKSRefused, match=reason):
        check(ISSUER, text)


def test_one_key_in_the_place_of_a_set_is_called_so() -> None:
    with pytest.raises(JWKSRefused, match="is one key, not a JWK Set") as refused:
        check(ISSUER, json.dumps(GOOD))
    assert '{"keys": [KEY' in refused.value.remedy


@pytest.mark.parametrize(
    ("key", "says"),
    [
        (PRIVATE, "is one private key"),
        (rsa().as_dict(private=True), "is one private key"),
        (OctKey.generate_key(256).as_dict(private=True), "is one symmetric key"),
    ],
    ids=["ec", "rsa", "oct"],
)
def test_a_private_key_in_the_place_of_a_set_is_called_so(key: dict[str, Any], says: str) -> None:
    with pytest.raises(JWKSRefused, match=says) as refused:
        check(ISSUER, json.dumps(key))
    secret = str(key.get("d") or key["k"])
    assert secret not in str(refused.value)
    if key["kty"] != "oct":
        assert "public half" in refused.value.remedy
        with pytest.raises(JWKSRefused, match="is a private key") as refused:
            check(ISSUER, jwks(key))
        assert "public half" in refused.value.remedy
        assert secret not in str(refused.value)


@pytest.mark.filterwarnings("ignore")
def test_a_short_rsa_key_is_left_out() -> None:
    short = {**RSAKey.generate_key(1024, private=False).as_dict(), "kid": "s", "alg": "RS256"}
    with pytest.raises(JWKSRefused, match="too short"):
        check(ISSUER, jwks(short))
    assert check(ISSUER, jwks(short, GOOD)).count == 1
