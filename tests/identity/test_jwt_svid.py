"""JWT-SVIDs: rules J1 to J9 and strict JOSE, each with a token that breaks it and is refused."""

import base64
import hmac
import json
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jws
from joserfc.jwk import ECKey, OKPKey, RSAKey

from tests.identity.world import ORDERS, START, TRUST_DOMAIN
from watertight.identity.clock import seconds
from watertight.identity.errors import TokenRejected
from watertight.identity.jwt_svid import jwk, sign, validate
from watertight.identity.keys import KeyType, PrivateKey, generate

KEY = generate(KeyType.ECDSA_P256)
NOW = int(START.timestamp())
AUDIENCE = "spiffe://shop.internal/mailer"
HEADER = {"alg": "ES256", "kid": "one", "typ": "JWT"}
CLAIMS = {"sub": str(ORDERS), "aud": [AUDIENCE], "iat": NOW, "exp": NOW + 300}


def public_pem(key: PrivateKey) -> str:
    """SubjectPublicKeyInfo."""
    return (
        key.public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode()
    )


def private_pem(key: PrivateKey) -> bytes:
    """PKCS#8, in memory only."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


SIGNER = ECKey.import_key(private_pem(KEY))
BUNDLES = {TRUST_DOMAIN: {"keys": [jwk("one", public_pem(KEY))]}}


def b64(data: bytes) -> str:
    """base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def token(header: dict[str, Any] | bytes, claims: dict[str, Any] | bytes) -> str:
    """Any header and any claims, signed rightly over exactly these bytes."""
    head = header if isinstance(header, bytes) else json.dumps(header).encode()
    body = claims if isinstance(claims, bytes) else json.dumps(claims).encode()
    signing_input = f"{b64(head)}.{b64(body)}"
    algorithm = jws.JWSRegistry.algorithms["ES256"]
    signature = algorithm.sign(signing_input.encode(), SIGNER)
    return f"{signing_input}.{b64(signature)}"


def good() -> str:
    """A right token."""
    return sign("one", KEY, ORDERS, [AUDIENCE], issued_at=START, expires_at=START + seconds(300))


def claims_but(**changes: Any) -> str:
    """A right token but for these claims; None leaves one out."""
    merged = {**CLAIMS, **changes}
    return token(HEADER, {k: v for k, v in merged.items() if v is not None})


def header_but(**changes: Any) -> str:
    """A right token but for these headers."""
    merged = {**HEADER, **changes}
    return token({k: v for k, v in merged.items() if v is not None}, CLAIMS)


def hmac_with_public_key() -> str:
    """The oldest trick: HS256 with the public key as the secret."""
    head = b64(json.dumps({"alg": "HS256", "kid": "one"}).encode())
    signing_input = f"{head}.{b64(json.dumps(CLAIMS).encode())}"
    digest = hmac.digest(public_pem(KEY).encode(), signing_input.encode(), "sha256")
    return f"{signing_input}.{b64(digest)}"


def of_key_type(algorithm: str, key: RSAKey | OKPKey | ECKey) -> str:
    """Signed by another key and algorithm, under our kid."""
    header = {"alg": algorithm, "kid": "one"}
    return jws.serialize_compact(header, json.dumps(CLAIMS), key, [algorithm])


def cut_signature() -> str:
    """Not signed at all, and says so."""
    head = b64(json.dumps({"alg": "none", "kid": "one"}).encode())
    return f"{head}.{b64(json.dumps(CLAIMS).encode())}."


def stray_bits() -> str:
    """The same signature spelled with other trailing bits (RFC 7515 section 2)."""
    head, body, signature = good().split(".")
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    last = alphabet[alphabet.index(signature[-1]) | 1]
    return ".".join((head, body, signature[:-1] + last))


def tampered() -> str:
    """Somebody else's name under a right signature."""
    head, _, signature = good().split(".")
    claims = json.dumps({**CLAIMS, "sub": f"spiffe://{TRUST_DOMAIN}/mallory"}).encode()
    return f"{head}.{b64(claims)}.{signature}"


def as_json() -> str:
    """The JSON serialisation of a right token."""
    head, body, signature = good().split(".")
    return json.dumps({"protected": head, "payload": body, "signature": signature})


BREACHES: list[tuple[str, Callable[[], str]]] = [
    ("J1", as_json),
    ("J1", lambda: good() + ".e30.e30"),
    ("J1", lambda: ""),
    ("J2", hmac_with_public_key),
    ("J2", lambda: of_key_type("Ed25519", OKPKey.generate_key("Ed25519"))),
    ("J2", lambda: of_key_type("RS256", RSAKey.generate_key(2048))),
    ("J2", lambda: of_key_type("ES384", ECKey.generate_key("P-384"))),
    ("J2", lambda: header_but(alg=None)),
    ("J2", lambda: header_but(alg=["ES256"])),
    ("J3", lambda: header_but(jku="https://evil.example/keys")),
    ("J3", lambda: header_but(jwk=SIGNER.as_dict(private=False))),
    ("J3", lambda: header_but(crit=["exp"])),
    ("J3", lambda: header_but(b64=False)),
    ("J3", lambda: header_but(typ="at+jwt")),
    ("J3", lambda: header_but(typ="wit+jwt")),
    ("J4", lambda: claims_but(sub=None)),
    ("J4", lambda: claims_but(sub="orders")),
    ("J4", lambda: claims_but(sub=["spiffe://shop.internal/orders"])),
    ("J4", lambda: claims_but(sub="spiffe://shop.internal")),
    ("J4", lambda: claims_but(sub="SPIFFE://shop.internal/orders")),
    ("J5", lambda: claims_but(aud=None)),
    ("J5", lambda: claims_but(aud=[])),
    ("J5", lambda: claims_but(aud="spiffe://shop.internal/other")),
    ("J5", lambda: claims_but(aud=AUDIENCE + "x")),
    ("J5", lambda: claims_but(aud=[AUDIENCE, 7])),
    ("J5", lambda: claims_but(aud={AUDIENCE: 1})),
    ("J6", lambda: claims_but(exp=None)),
    ("J6", lambda: claims_but(exp=NOW - 6)),
    ("J6", lambda: claims_but(exp=str(NOW + 300))),
    ("J6", lambda: claims_but(exp=True)),
    ("J6", lambda: claims_but(exp=1e300)),
    ("J6", lambda: claims_but(exp=-1)),
    ("J6", lambda: claims_but(iat=NOW + 3600)),
    ("J6", lambda: claims_but(nbf=NOW + 3600)),
    ("J6", lambda: claims_but(nbf="soon")),
    ("J7", lambda: claims_but(sub="spiffe://evil.internal/orders")),
    ("J7", lambda: header_but(kid="two")),
    ("J7", lambda: of_key_type("ES256", ECKey.generate_key("P-256"))),
    ("J7", tampered),
    ("J9", lambda: header_but(kid=None)),
    ("J9", lambda: header_but(kid="")),
    ("J9", lambda: header_but(kid=1)),
    ("JOSE", cut_signature),
    ("JOSE", stray_bits),
    ("JOSE", lambda: good() + "=="),
    ("JOSE", lambda: good() + "\n"),
    ("JOSE", lambda: token(HEADER, b'{"sub": "a", "sub": "b"}')),
    ("JOSE", lambda: token(b'{"alg": "ES256", "alg": "none"}', CLAIMS)),
    ("JOSE", lambda: token(HEADER, b"[]")),
    ("JOSE", lambda: token(HEADER, b'{"exp": NaN}')),
    ("JOSE", lambda: token(HEADER, b"\xff\xfe")),
    ("JOSE", lambda: token(HEADER, b"[" * 5000)),
    ("JOSE", lambda: claims_but(pad="x" * 9000)),
]


def test_a_right_token_is_valid_and_names_its_claims() -> None:
    assert validate(good(), AUDIENCE, BUNDLES, START) == CLAIMS
    assert validate(token(HEADER, CLAIMS), AUDIENCE, BUNDLES, START) == CLAIMS
    assert validate(claims_but(aud=AUDIENCE), AUDIENCE, BUNDLES, START)["aud"] == AUDIENCE
    assert validate(header_but(typ=None), AUDIENCE, BUNDLES, START) == CLAIMS


@pytest.mark.parametrize(("rule", "make"), BREACHES)
def test_refuses_by_rule(rule: str, make: Callable[[], str]) -> None:
    with pytest.raises(TokenRejected) as refusal:
        validate(make(), AUDIENCE, BUNDLES, START)
    assert refusal.value.rule == rule


def test_j6_leeway_is_seconds_not_minutes() -> None:
    validate(good(), AUDIENCE, BUNDLES, START + seconds(304))
    with pytest.raises(TokenRejected):
        validate(good(), AUDIENCE, BUNDLES, START + seconds(305))


def test_j7_a_key_must_be_the_only_one_of_its_name_and_for_jwt_svids() -> None:
    (own,) = BUNDLES[TRUST_DOMAIN]["keys"]
    for keys in ([own, own], [{**own, "use": "sig"}], [{**own, "use": "x509-svid"}], []):
        with pytest.raises(TokenRejected, match="exactly one"):
            validate(good(), AUDIENCE, {TRUST_DOMAIN: {"keys": keys}}, START)
    broken = {**own, "x": "AAAA"}
    with pytest.raises(TokenRejected, match="elliptic"):
        validate(good(), AUDIENCE, {TRUST_DOMAIN: {"keys": [broken]}}, START)


def test_j9_the_bundle_says_use_and_kid_and_holds_nothing_private() -> None:
    key = jwk("one", public_pem(KEY))
    assert (key["use"], key["kid"], key["kty"]) == ("jwt-svid", "one", "EC")
    assert "d" not in key


def test_j5_nothing_is_signed_without_an_audience() -> None:
    for audiences in ([], [""], ["a"] * 17):
        with pytest.raises(TokenRejected, match="J5"):
            sign("one", KEY, ORDERS, audiences, issued_at=START, expires_at=START)


def test_p384_authorities_sign_es384() -> None:
    key = generate(KeyType.ECDSA_P384)
    made = sign("two", key, ORDERS, [AUDIENCE], issued_at=START, expires_at=START + seconds(300))
    bundles = {TRUST_DOMAIN: {"keys": [jwk("two", public_pem(key))]}}
    assert validate(made, AUDIENCE, bundles, START)["sub"] == str(ORDERS)


@given(st.text(max_size=200) | st.binary(max_size=100).map(lambda b: f"{b64(b)}.{b64(b)}.{b64(b)}"))
def test_no_text_raises_anything_but_a_refusal(text: str) -> None:
    with pytest.raises(TokenRejected):
        validate(text, AUDIENCE, BUNDLES, START)
