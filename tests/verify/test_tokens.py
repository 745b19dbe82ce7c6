"""The keys that the operator lends for a proof."""

import json
from typing import Any

import pytest
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey

from watertight.verify.tokens import UnusableKey, is_of

MADE: dict[str, Any] = {
    "EC": ECKey.generate_key("P-256"),
    "RSA": RSAKey.generate_key(2048),
    "OKP": OKPKey.generate_key("Ed25519"),
}


def key_set(*keys: Any) -> str:
    return json.dumps({"keys": [key.as_dict(private=False) for key in keys]})


@pytest.mark.parametrize("kind", MADE)
def test_a_key_is_known_by_its_numbers_whatever_it_is_called(kind: str) -> None:
    others = [key for name, key in MADE.items() if name != kind]
    private = {**MADE[kind].as_dict(private=True), "kid": "another name"}
    assert is_of(private, "main", key_set(*others, MADE[kind]))
    assert not is_of(private, "main", key_set(*others))


@pytest.mark.parametrize(
    "key",
    [
        {},
        {"kty": "EC"},
        MADE["EC"].as_dict(private=False),
        OctKey.generate_key(256).as_dict(private=True),
        {**MADE["EC"].as_dict(private=True), "crv": "P-999"},
        {**MADE["RSA"].as_dict(private=True), "n": "!"},
    ],
    ids=["nothing", "a type alone", "a public key", "a secret", "an odd curve", "no number"],
)
def test_what_signs_nothing_is_refused_without_a_word_of_it(key: dict[str, Any]) -> None:
    with pytest.raises(UnusableKey) as refused:
        is_of(key, "main", key_set(MADE["EC"]))
    assert refused.value.__cause__ is None
    assert str(key.get("d")) not in str(refused.value) or not key.get("d")
