"""The key sets (JWKS, RFC 7517) of the issuers whose tokens the gateway accepts.

A set is checked before it is believed: Envoy and most JOSE libraries let through what is left out
here, and Envoy refuses a whole set for one key that it cannot read.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from joserfc.jwk import ECKey, OKPKey, RSAKey

from watertight.errors import WatertightError
from watertight.model.document import quoted
from watertight.model.system import Issuer

MOST_KEYS = 100
"""Far above what any provider serves; a token without `kid` costs one verification a key."""
MIN_RSA_BITS = 2048
MAX_RSA_BITS = 8192
"""BoringSSL reads no larger one."""
RSA_EXPONENTS = (3, 65_537)
"""Envoy reads no other."""
RSA_ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
CURVES = {
    "EC": {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"},
    "OKP": {"Ed25519": "EdDSA"},
}
"""What signs with each curve: RFC 7518 section 3.4, RFC 8037 section 3.1. No others are read by
Envoy's ``jwt_authn``, to which one key that it cannot read spoils the whole set."""
PRIVATE_PARAMETERS = {"d", "p", "q", "dp", "dq", "qi", "oth", "k"}
READ = ("kty", "kid", "alg", "crv", "n", "e", "x", "y")
"""What of a key reaches Envoy; certificates and the like have no say."""
SHOWN = 40
"""Characters of a `kid`."""


MOST_SHOWN = 5
"""Keys that an error says something of."""
ASYMMETRIC = (
    "Who can verify with it can sign with it. Have the issuer sign with RS256, ES256, EdDSA or "
    'the like, and write its public keys as {"keys": [KEY, …]}.'
)
REMEDY = "Serve a JWK Set (RFC 7517) with the issuer's public signing keys."
WRAP = 'A set is written {"keys": [KEY, …]}, each KEY a public key.'
PUBLIC = (
    'Write the public half only, as {"keys": [KEY]}, without the members d, p, q, dp, dq and qi; '
    "keep this file out of the project, for its services can read what is there."
)


class JWKSRefused(WatertightError):
    """A key set that cannot be read, or that must not be believed: ``why`` follows its name."""

    def __init__(self, issuer: Issuer, why: str, remedy: str = REMEDY) -> None:
        super().__init__(
            f"The key set {quoted(issuer.jwks)} of the issuer {quoted(issuer.name)} {why}.",
            remedy=remedy,
        )
        self.issuer = issuer
        self.why = why


class KeysWithdrawn(JWKSRefused):
    """A JWK Set in which no key verifies tokens: the issuer's word that none is good any more."""


@dataclass(frozen=True, slots=True)
class Checked:
    """A key set that may be believed."""

    keys: str
    """The usable keys as a JWK Set for Envoy: normalised JSON."""
    count: int
    skipped: tuple[str, ...] = ()
    """The keys that are left out, each with the reason: ``key `x` is for encryption``."""


@cache
def no_key() -> Checked:
    """What verifies no token: a key whose private half was never kept, since Envoy refuses a set of
    none."""
    key = ECKey.generate_key("P-256", private=True).as_dict(private=False)
    return Checked(json.dumps({"keys": [_for_envoy(key)]}, sort_keys=True), 0)


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        msg = "a JSON member occurs twice"
        raise ValueError(msg)
    return document


def check(issuer: Issuer, text: str) -> Checked:
    """The keys of a set that verify signatures; raises :class:`KeysWithdrawn` if none does, and
    :class:`JWKSRefused` for what is no such set.

    RFC 7517 section 5 has keys ignored that cannot be used, so one never spoils the others: those
    for encryption, symmetric and private ones, RSA below 2048 bits, unknown types, curves and
    ``alg``. Where ``alg`` is left out (it is optional, section 4.4), the type and curve say which
    signatures are accepted; never a symmetric one (RFC 8725 section 3.1).
    """
    keys = _keys(issuer, text)
    usable: list[dict[str, str | list[str]]] = []
    skipped: list[str] = []
    for number, key in enumerate(keys):
        problem = _problem(key)
        if problem is None:
            usable.append(_for_envoy(key))
        else:
            skipped.append(f"{_name(number, key)} {problem}")
    if not usable:
        shown = "; ".join(skipped[:MOST_SHOWN]) + ("; …" if len(skipped) > MOST_SHOWN else "")
        private = any(" is a private key" in why for why in skipped)
        why = f"holds no key that verifies tokens: {shown}"
        raise KeysWithdrawn(issuer, why, PUBLIC if private else REMEDY)
    text = json.dumps({"keys": usable}, sort_keys=True, separators=(",", ":"))
    return Checked(text, len(usable), tuple(skipped))


def _keys(issuer: Issuer, text: str) -> list[Any]:
    try:
        document = json.loads(text.removeprefix("\ufeff"), object_pairs_hook=_no_duplicates)
    except (ValueError, RecursionError) as error:
        if text.lstrip().startswith("-----BEGIN"):
            what = "is PEM, not a JWK Set"
            raise JWKSRefused(issuer, what, f"Convert it to JWK. {WRAP}") from None
        if isinstance(error, json.JSONDecodeError):
            where = f"line {error.lineno}, column {error.colno}"
            raise JWKSRefused(issuer, f"is not JSON ({where}), so not a JWK Set") from None
        raise JWKSRefused(
            issuer, "is not a JWK Set: it is nested too deep, or names a member twice"
        ) from None
    if isinstance(document, dict) and "kty" in document and "keys" not in document:
        if document["kty"] == "oct":
            raise JWKSRefused(issuer, "is one symmetric key, not a JWK Set", ASYMMETRIC)
        if _is_private(document):
            raise JWKSRefused(issuer, "is one private key, not a JWK Set of public ones", PUBLIC)
        raise JWKSRefused(issuer, "is one key, not a JWK Set", WRAP)
    if isinstance(document, dict) and "jwks_uri" in document:
        what = "is a provider's configuration (OpenID Connect Discovery), not a JWK Set"
        raise JWKSRefused(issuer, what, "Write the URL that it names as `jwks_uri`.")
    if isinstance(document, list):
        raise JWKSRefused(issuer, "is a list, not a JWK Set", WRAP)
    keys = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(keys, list):
        raise JWKSRefused(issuer, "is not a JWK Set: it has no list `keys`", WRAP)
    if not keys:
        raise KeysWithdrawn(issuer, "holds no key")
    if len(keys) > MOST_KEYS:
        raise JWKSRefused(issuer, f"holds {len(keys)} keys, more than {MOST_KEYS}")
    return keys


def _name(number: int, key: Any) -> str:
    """How a key is called: by its ``kid``, which anybody may have written, or its place."""
    kid = key.get("kid") if isinstance(key, dict) else None
    return f"key {quoted(kid, SHOWN)}" if isinstance(kid, str) and kid else f"key {number + 1}"


def _is_private(key: dict[str, Any]) -> bool:
    return not PRIVATE_PARAMETERS.isdisjoint(key)


def _problem(key: Any) -> str | None:
    """Why one JWK verifies no token, or None."""
    if not isinstance(key, dict):
        return "is not an object"
    kind, use, operations = key.get("kty"), key.get("use", "sig"), key.get("key_ops", ["verify"])
    if kind == "oct":
        return "is symmetric (`oct`): who can verify with it can sign with it"
    if kind != "RSA" and (not isinstance(kind, str) or kind not in CURVES):
        return f"is of the type {quoted(kind)}, which signs no token that is accepted"
    if _is_private(key):
        return "is a private key: whoever has read it can sign tokens, so make a new one"
    if use != "sig":
        return "is for encryption" if use == "enc" else f"is for {quoted(use)}, not signatures"
    if not isinstance(operations, list) or "verify" not in operations:
        return f"is not for verifying (`key_ops` {quoted(operations)})"
    return _wrong_algorithm(key, kind) or _wrong_kid(key) or _weakness(key, kind)


def _wrong_algorithm(key: dict[str, Any], kind: str) -> str | None:
    algorithm = key.get("alg")
    if kind == "RSA":
        allowed: Sequence[str] = RSA_ALGORITHMS
    else:
        curve = key.get("crv")
        if not isinstance(curve, str) or curve not in CURVES[kind]:
            return f"has the curve {quoted(curve)}, with which no accepted token is signed"
        allowed = (CURVES[kind][curve],)
    if "alg" in key and algorithm not in allowed:
        return f"is for {quoted(algorithm)}, not for {', '.join(allowed)}"
    return None


def _wrong_kid(key: dict[str, Any]) -> str | None:
    """Without a ``kid`` (optional, section 4.5) a key is tried for every token."""
    kid = key.get("kid", "x")
    if not isinstance(kid, str):
        return "has a `kid` that is not text"
    surrogates = any("\ud800" <= c <= "\udfff" for c in kid)
    return "has a `kid` that is not Unicode" if surrogates else None


def _weakness(key: dict[str, Any], kind: str) -> str | None:
    """What is wrong with the numbers of a JWK, or None."""
    try:
        if kind == "RSA":
            numbers = RSAKey.import_key(_for_envoy(key)).public_key.public_numbers()
            bits = numbers.n.bit_length()
            if not MIN_RSA_BITS <= bits <= MAX_RSA_BITS:
                return f"is RSA of {bits} bits, too {'short' if bits < MIN_RSA_BITS else 'long'}"
            return None if numbers.e in RSA_EXPONENTS else f"has the RSA exponent {numbers.e}"
        made = (ECKey if kind == "EC" else OKPKey).import_key(_for_envoy(key))
        made.public_key  # noqa: B018 - says no to what is no point of the curve
    except Exception:  # noqa: BLE001 - joserfc raises many kinds; each means the same here
        return "is malformed"
    return None


def _for_envoy(key: dict[str, Any]) -> dict[str, str | list[str]]:
    """Only what is read there. Envoy would take any ``ES…`` for a curve's key without ``alg``, so
    it is filled in; an RSA key without one verifies RS and PS of 256, 384 and 512, as it does."""
    reduced = {name: key[name] for name in READ if name in key}
    if key["kty"] != "RSA":
        reduced["alg"] = CURVES[key["kty"]][key["crv"]]
    return reduced
