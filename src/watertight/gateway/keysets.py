"""The key sets (JWKS, RFC 7517) of the issuers whose tokens the gateway accepts.

We fetch them centrally and push them into Envoy, so that an issuer's outage stops nothing and a
withdrawn key stops being accepted at once. A set is checked before it is believed: Envoy and most
JOSE libraries let through what ``JWKSRefused`` names here.
"""

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
from joserfc.jwk import ECKey, KeySet, OKPKey, RSAKey

from watertight.errors import WatertightError
from watertight.model.system import Issuer, System

MAX_BYTES = 262_144
FETCH_TIMEOUT_SECONDS = 5.0
MIN_RSA_BITS = 2048
ALGORITHMS = {
    "RSA": ("PS256", "PS384", "PS512", "RS256", "RS384", "RS512"),
    "EC": ("ES256", "ES384", "ES512"),
    "OKP": ("EdDSA",),
}
CURVES = {
    "ES256": ("P-256",),
    "ES384": ("P-384",),
    "ES512": ("P-521",),
    "EdDSA": ("Ed25519", "Ed448"),
}
"""RFC 7518 section 3.4 and RFC 8037 section 3.1: one that signs something else fits no ``alg``."""
PRIVATE_PARAMETERS = {"d", "p", "q", "dp", "dq", "qi", "oth", "k"}


REMEDY = "Serve a JWK Set of public signing keys, each with its own `kid` and `alg`."


class JWKSRefused(WatertightError):
    """A key set that cannot be read, or that must not be believed: ``why`` follows its name."""

    def __init__(self, issuer: Issuer, why: str) -> None:
        super().__init__(
            f"{issuer.at}: the key set of issuer `{issuer.name}` ({issuer.jwks}) {why}.",
            remedy=REMEDY,
        )
        self.why = why


def _refuse(issuer: Issuer, why: str) -> JWKSRefused:
    return JWKSRefused(issuer, why)


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        msg = "a JSON member occurs twice"
        raise ValueError(msg)
    return document


def check(issuer: Issuer, text: str) -> str:
    """Returns the key set as normalised JSON, or raises :class:`JWKSRefused`.

    Refused: no keys, symmetric or private keys, keys for anything but signatures, RSA below 2048
    bits, an ``alg`` that is missing or of another key type or curve, and a ``kid`` that is missing
    or used twice (RFC 7517 sections 4 and 5, RFC 8725 section 3.1).
    """
    try:
        document = json.loads(text, object_pairs_hook=_no_duplicates)
        keys = document["keys"]
        if not isinstance(keys, list) or not all(isinstance(key, dict) for key in keys):
            raise TypeError
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _refuse(issuer, "is not a JWK Set") from error
    if not keys:
        raise _refuse(issuer, "holds no key")
    seen: set[str] = set()
    for number, key in enumerate(keys):
        problem = _problem(key)
        kid = key.get("kid")
        if problem is None and kid in seen:
            problem = f"repeats the `kid` {kid!r}"
        if problem is not None:
            raise _refuse(issuer, f"key {number}: {problem}")
        seen.add(str(kid))
    try:
        KeySet.import_key_set({"keys": keys})
    except Exception as error:
        raise _refuse(issuer, f"has a malformed key ({type(error).__name__})") from error
    return json.dumps({"keys": keys}, sort_keys=True, separators=(",", ":"))


def _problem(key: dict[str, Any]) -> str | None:
    """What is wrong with one JWK, or None."""
    kind, algorithm, uses = key.get("kty"), key.get("alg"), key.get("key_ops", ["verify"])
    if not isinstance(kind, str) or kind not in ALGORITHMS:
        return f"key type {kind!r} cannot sign tokens that others verify"
    if PRIVATE_PARAMETERS & key.keys():
        return "holds a private key"
    if not isinstance(key.get("kid"), str) or not key["kid"]:
        return "has no `kid`"
    if algorithm not in ALGORITHMS[kind]:
        return f"needs an `alg` of {', '.join(ALGORITHMS[kind])}, not {algorithm!r}"
    if kind != "RSA" and key.get("crv") not in CURVES[algorithm]:
        return f"has the curve {key.get('crv')!r}, with which {algorithm} does not sign"
    if key.get("use", "sig") != "sig" or not isinstance(uses, list) or "verify" not in uses:
        return "is not for verifying signatures"
    return _weakness(key, kind)


def _weakness(key: dict[str, Any], kind: str) -> str | None:
    """What is wrong with the numbers of a JWK, or None."""
    try:
        if kind == "RSA":
            bits = RSAKey.import_key(key).public_key.key_size
            return None if bits >= MIN_RSA_BITS else f"RSA of {bits} bits is too short"
        (ECKey if kind == "EC" else OKPKey).import_key(key)
    except Exception:  # noqa: BLE001 - joserfc raises many kinds; each means the same here
        return "is malformed"
    return None


async def fetch(issuer: Issuer, project_directory: Path) -> str:
    """Reads the issuer's key set from its file or https URL, and checks it."""
    if issuer.jwks.startswith("https://"):
        return check(issuer, await _download(issuer))
    return await asyncio.to_thread(read, issuer, project_directory)


def read(issuer: Issuer, project_directory: Path) -> str:
    """The key set of an issuer that has it in a file, checked. Raises :class:`JWKSRefused`."""
    try:
        with (project_directory / issuer.jwks).open(encoding="utf-8") as file:
            text = file.read(MAX_BYTES + 1)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8"
        raise _refuse(issuer, f"cannot be read: {reason}") from error
    if len(text) > MAX_BYTES:
        raise _refuse(issuer, f"is larger than {MAX_BYTES} bytes")
    return check(issuer, text)


async def _download(issuer: Issuer) -> str:
    body = bytearray()
    try:
        async with (
            httpx.AsyncClient(timeout=FETCH_TIMEOUT_SECONDS, follow_redirects=False) as client,
            client.stream("GET", issuer.jwks, headers={"accept": "application/json"}) as answer,
        ):
            if answer.status_code != httpx.codes.OK:
                raise _refuse(issuer, f"was answered with status {answer.status_code}")
            async for chunk in answer.aiter_bytes():
                body += chunk
                if len(body) > MAX_BYTES:
                    raise _refuse(issuer, f"is larger than {MAX_BYTES} bytes")
    # A URL whose host is no name is met by the client only: InvalidURL, or idna's UnicodeError.
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
        raise _refuse(issuer, f"cannot be fetched ({type(error).__name__})") from error
    return body.decode("utf-8", "replace")


async def fetch_all(
    system: System, project_directory: Path, last_good: Mapping[str, str]
) -> tuple[dict[str, str], tuple[JWKSRefused, ...]]:
    """Every issuer's key set by issuer name, and the refusals.

    An issuer that cannot be fetched now keeps its last good set (its outage is not ours); one that
    never had a good set has none, and the compiler refuses the routes that need it.
    """
    issuers = system.gateway.issuers if system.gateway else {}
    keys: dict[str, str] = {}
    refusals: list[JWKSRefused] = []
    for name, issuer in issuers.items():
        try:
            keys[name] = await fetch(issuer, project_directory)
        except JWKSRefused as refusal:
            refusals.append(refusal)
            if name in last_good:
                keys[name] = last_good[name]
    return keys, tuple(refusals)
