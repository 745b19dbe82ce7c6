"""JWTs for the gateway's probes, signed with an issuer's real key where the operator lends it."""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

from joserfc import jwk, jws, jwt
from joserfc.errors import JoseError
from joserfc.registry import HeaderParameter

from watertight.errors import WatertightError
from watertight.model.system import Issuer

LIFETIME_SECONDS = 300
NO_HEADER: Mapping[str, Any] = MappingProxyType({})
ALGORITHMS = {"RSA": "RS256", "OKP": "EdDSA"}
CURVES = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}


class UnusableKey(WatertightError):
    """A lent token key is not a private JWK that signs."""


class TokenSigner:
    """Signs what an issuer would sign. ``keys``: issuer name → its private JWK (RFC 7517)."""

    def __init__(self, issuers: Mapping[str, Issuer], keys: Mapping[str, Mapping[str, Any]]):
        self._issuers = issuers
        self._keys = keys

    def sign(
        self, issuer: str, claims: Mapping[str, Any], *, header: Mapping[str, Any] = NO_HEADER
    ) -> str | None:
        """A token of that issuer; None if its key was not lent.

        Claims and header are right ones (RFC 9068) but for those given; a claim given as None is
        left out; what ``crit`` names are flags. Raises :class:`UnusableKey`.
        """
        private = self._keys.get(issuer)
        if private is None or issuer not in self._issuers:
            return None
        declared = self._issuers[issuer]
        now = int(time.time())
        right: dict[str, Any] = {
            "iss": declared.issuer,
            "aud": list(declared.audiences),
            "sub": "watertight-verify",
            "client_id": "watertight-verify",
            "iat": now,
            "exp": now + LIFETIME_SECONDS,
        }
        payload = {k: v for k, v in {**right, **claims}.items() if v is not None}
        with _refusing(issuer):
            key = jwk.import_key(dict(private))
            alg = algorithm(private)
            right_header = {"alg": alg, "typ": "at+jwt", "kid": private.get("kid", "")}
            flags = {name: HeaderParameter(name, "bool") for name in header.get("crit", ())}
            registry = jws.JWSRegistry(flags, algorithms=[alg])
            return jwt.encode({**right_header, **header}, payload, key, registry=registry)

    def public_key(self, issuer: str) -> bytes | None:
        """The public half of a lent key, in PEM; None if none was lent. Raises UnusableKey."""
        private = self._keys.get(issuer)
        if private is None:
            return None
        with _refusing(issuer):
            key = jwk.import_key(dict(private))
            if isinstance(key, jwk.OctKey):
                raise TypeError
            return key.as_pem(private=False)


def is_of(private: Mapping[str, Any], issuer: str, key_set: str) -> bool:
    """Whether a key signs, and its public half is in a JWK Set (by thumbprint, RFC 7638).

    Raises :class:`UnusableKey` for what is no private key of a public one.
    """
    with _refusing(issuer):
        key = jwk.import_key(dict(private))
        if isinstance(key, jwk.OctKey) or not key.is_private:
            raise TypeError
        algorithm(private)
        public = jwk.KeySet.import_key_set(json.loads(key_set))
        return key.thumbprint() in {one.thumbprint() for one in public.keys}


@contextmanager
def _refusing(issuer: str) -> Iterator[None]:
    """Tells of a key that is none."""
    try:
        yield
    except (JoseError, ValueError, KeyError, TypeError) as error:
        # The cause may quote the key: only its type is told.
        raise UnusableKey(
            f"The token key lent for issuer {issuer} does not sign ({type(error).__name__}).",
            remedy="Give a private JWK of type EC, RSA or OKP.",
        ) from None


def algorithm(key: Mapping[str, Any]) -> str:
    """The JWS algorithm of a JWK: its ``alg``, or the usual one of its type and curve."""
    if alg := key.get("alg"):
        return str(alg)
    if key.get("kty") == "EC":
        return CURVES[str(key["crv"])]
    return ALGORITHMS[str(key["kty"])]
