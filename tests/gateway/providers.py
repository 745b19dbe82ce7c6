"""Key sets in the shapes in which identity providers serve them; the keys are made here.

Members as of their public ``jwks_uri``: Microsoft Entra (no ``alg``), Keycloak (a key
for encryption beside), Auth0, Amazon Cognito, Google, Okta; and what a few others serve.
"""

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey

Key = dict[str, Any]
CERTIFICATE = {"x5c": ["MIIC"], "x5t": "abc", "x5t#S256": "def"}


@cache
def rsa(number: int = 0, bits: int = 2048) -> RSAKey:
    """One key a number, for making them takes long."""
    return RSAKey.generate_key(bits, private=True, parameters={"kid": f"rsa-{number}"})


EC = ECKey.generate_key("P-256")
ED = OKPKey.generate_key("Ed25519")


def public(key: RSAKey | ECKey | OKPKey, **members: Any) -> Key:
    """The public half, with these members and no others."""
    bare = {k: v for k, v in key.as_dict(private=False).items() if k in {"kty", *"nexy", "crv"}}
    return {**bare, **members}


def entra(kid: str = "entra") -> list[Key]:
    """No ``alg``; with the issuer of each key beside it."""
    issuer = "https://login.microsoftonline.com/{tenantid}/v2.0"
    more: Mapping[str, Any] = {"use": "sig", "x5t": kid, "x5c": ["MIIC"], "issuer": issuer}
    cloud = {"cloud_instance_name": "microsoftonline.com"}
    return [public(rsa(n), kid=f"{kid}{n}", **more, **cloud) for n in (0, 1)]


def keycloak() -> list[Key]:
    """The second is for encryption."""
    return [
        public(rsa(0), kid="kc-sig", alg="RS256", use="sig", **CERTIFICATE),
        public(rsa(1), kid="kc-enc", alg="RSA-OAEP", use="enc", **CERTIFICATE),
    ]


def auth0() -> list[Key]:
    return [public(rsa(n), kid=f"a{n}", alg="RS256", use="sig", **CERTIFICATE) for n in (0, 1)]


def cognito() -> list[Key]:
    return [public(rsa(n), kid=f"c{n}=", alg="RS256", use="sig") for n in (0, 1)]


def google() -> list[Key]:
    return [public(rsa(n), kid=f"g{n}", alg="RS256", use="sig") for n in (0, 1)]


def okta() -> list[Key]:
    return [public(rsa(0), kid="o_-0", alg="RS256", use="sig")]


def mixed() -> list[Key]:
    """Much that cannot be used beside one key of each kind that can; nothing says ``alg``."""
    secp = ECKey.generate_key("secp256k1", private=False)
    return [
        public(rsa(0), kid="m-rsa"),
        public(EC, kid="m-ec"),
        public(ED, kid="m-ed", alg="EdDSA"),
        OctKey.generate_key(256).as_dict(private=True) | {"kid": "m-oct", "alg": "HS256"},
        public(secp, kid="m-k1", alg="ES256K"),
        public(OKPKey.generate_key("X25519", private=False), kid="m-x", use="sig"),
        public(OKPKey.generate_key("Ed448", private=False), kid="m-448"),
        {"kty": "AKP", "kid": "m-pq", "alg": "ML-DSA-65", "pub": "AAAA"},
        public(rsa(1), kid="m-ops", key_ops=["encrypt", "wrapKey"]),
        public(rsa(1), kid="m-alg", alg="RSA-OAEP-256"),
    ]


SETS = {
    "entra": (entra, 2, 0),
    "keycloak": (keycloak, 1, 1),
    "auth0": (auth0, 2, 0),
    "cognito": (cognito, 2, 0),
    "google": (google, 2, 0),
    "okta": (okta, 1, 0),
    "mixed": (mixed, 3, 7),
}
"""Name → what it serves, how many of its keys verify tokens, and how many do not."""


def jwks(*keys: Any) -> str:
    """A JWK Set as text."""
    return json.dumps({"keys": keys})
