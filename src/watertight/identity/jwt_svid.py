"""JWT-SVIDs: signed by one JWT authority, validated more strictly than any library does alone.

The library (joserfc) makes and checks signatures. Around it stands what it lets through: padding
and stray bits in base64url, duplicate names in JSON, headers beyond ``alg``, ``kid`` and ``typ``,
unbounded numbers and sizes. The rule numbers (J1 to J10) are those of our research notes on
SPIFFE's JWT-SVID; JOSE stands for what RFC 7515 and RFC 8725 ask beyond it.

Only elliptic-curve keys: our own JWT authorities have no others.
"""

import base64
import datetime as dt
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from cryptography.hazmat.primitives import serialization
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey

from watertight.identity.errors import MalformedSPIFFEID, TokenRejected
from watertight.identity.keys import PrivateKey
from watertight.identity.spiffe import SPIFFEID

MAX_TOKEN_BYTES = 8192
MAX_AUDIENCES = 16
"""The standard sets no bound; a token that travels in a header does."""
MAX_AUDIENCE_BYTES = 1024
MAX_AUDIENCES_BYTES = 4096
"""Of all together: so that what is signed is never longer than what is accepted."""
LEEWAY_SECONDS = 5.0
MAX_DATE = 253_402_300_799
"""The last second of the year 9999: a larger NumericDate is an attack on the parser."""

USE = "jwt-svid"
ALGORITHM_OF_CURVE = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}
"""One algorithm a key, so that a header cannot choose (RFC 8725 section 3.1)."""

_BASE64URL = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
_HEADERS = frozenset({"alg", "kid", "typ"})
_TYPES = frozenset({"JWT", "JOSE"})


def jwk(key_id: str, public_key_pem: str) -> dict[str, Any]:
    """One key of a JWT bundle (J9: ``use`` is ``jwt-svid`` and ``kid`` is set)."""
    key = ECKey.import_key(public_key_pem).as_dict(private=False)
    return {**key, "kid": key_id, "use": USE}


def sign(
    key_id: str, key: PrivateKey, subject: SPIFFEID, audiences: Sequence[str], *,
    issued_at: dt.datetime, expires_at: dt.datetime,
) -> str:  # fmt: skip
    """A JWT-SVID in compact serialisation (J1), with ``sub``, ``aud``, ``iat`` and ``exp``.

    Raises ``TokenRejected`` (J5); see :func:`check_audiences`.
    """
    check_audiences(audiences)
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    signer = ECKey.import_key(pem)
    algorithm = ALGORITHM_OF_CURVE[signer.curve_name]
    claims = {
        "sub": str(subject),
        "aud": list(audiences),
        "iat": int(issued_at.timestamp()),
        "exp": int(expires_at.timestamp()),
    }
    header = {"alg": algorithm, "kid": key_id, "typ": "JWT"}
    return jws.serialize_compact(header, json.dumps(claims), signer, [algorithm])


def check_audiences(audiences: Sequence[str]) -> None:
    """Raises ``TokenRejected`` (J5) for no audience, an empty one, too many or too long ones."""
    if not audiences or not all(audiences) or len(audiences) > MAX_AUDIENCES:
        raise TokenRejected("J5", f"it needs between 1 and {MAX_AUDIENCES} named audiences.")
    lengths = [len(audience.encode(errors="surrogatepass")) for audience in audiences]
    if max(lengths) > MAX_AUDIENCE_BYTES or sum(lengths) > MAX_AUDIENCES_BYTES:
        raise TokenRejected(
            "J5",
            f"an audience has at most {MAX_AUDIENCE_BYTES} bytes, all of them "
            f"{MAX_AUDIENCES_BYTES}.",
        )


def validate(
    token: str,
    audience: str,
    bundles: Mapping[str, Mapping[str, Any]],
    now: dt.datetime,
) -> dict[str, Any]:
    """The claims of a valid JWT-SVID.

    ``bundles`` maps a trust domain to its JWK Set; ``audience`` is the validator's own name.
    Raises ``TokenRejected`` with the rule that the token breaks.
    """
    header, claims = _parse(token)
    algorithm, key_id = _check_header(header)
    subject = _subject(claims)
    # J7: the key comes from the bundle of the subject's own trust domain, or domain A could
    # speak for B.
    key = _key(bundles.get(subject.trust_domain), key_id, algorithm)
    try:
        jws.deserialize_compact(token, key, [algorithm])
    except JoseError:
        raise TokenRejected("J7", "its signature does not verify.") from None
    _check_audience(claims, audience)
    _check_times(claims, now)
    return claims


def _parse(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    if len(token) > MAX_TOKEN_BYTES:
        raise TokenRejected("JOSE", f"it has more than {MAX_TOKEN_BYTES} bytes.")
    parts = token.split(".")
    if len(parts) != 3:
        raise TokenRejected("J1", "it is not a compact serialisation of three parts.")
    header, claims, _ = (_decode(part) for part in parts)
    return _load(header), _load(claims)


def _decode(part: str) -> bytes:
    # Strict (RFC 7515 section 2): no padding, no stray bits; one token has one spelling.
    if not _BASE64URL.fullmatch(part) or len(part) % 4 == 1:
        raise TokenRejected("JOSE", "a part is not base64url without padding.")
    data = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    if base64.urlsafe_b64encode(data).rstrip(b"=").decode() != part:
        raise TokenRejected("JOSE", "a part is not canonical base64url.")
    return data


def _load(data: bytes) -> dict[str, Any]:
    try:
        document = json.loads(data.decode(), object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise TokenRejected("JOSE", "a part is not a JSON object of unique names.") from None
    if not isinstance(document, dict):
        raise TokenRejected("JOSE", "a part is not a JSON object.")
    return document


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({name for name, _ in pairs}) != len(pairs):
        raise ValueError("duplicate name")
    return dict(pairs)


def _no_constant(text: str) -> None:
    raise ValueError(f"{text} is no JSON number")


def _check_header(header: dict[str, Any]) -> tuple[str, str]:
    if extra := header.keys() - _HEADERS:
        raise TokenRejected("J3", f"it has the headers {', '.join(sorted(extra))}.")
    if "typ" in header and header["typ"] not in _TYPES:
        raise TokenRejected("J3", "its typ is neither JWT nor JOSE.")
    algorithm, key_id = header.get("alg"), header.get("kid")
    if algorithm not in ALGORITHM_OF_CURVE.values():
        raise TokenRejected("J2", "its alg is none that our authorities sign with.")
    if not isinstance(key_id, str) or not key_id:
        raise TokenRejected("J9", "it names no key (kid).")
    return str(algorithm), key_id


def _subject(claims: dict[str, Any]) -> SPIFFEID:
    subject = claims.get("sub")
    if not isinstance(subject, str):
        raise TokenRejected("J4", "it has no sub.")
    try:
        identity = SPIFFEID.parse(subject)
    except MalformedSPIFFEID as error:
        raise TokenRejected("J4", f"its sub is no SPIFFE ID: {error.message}") from None
    if identity.is_trust_domain or str(identity) != subject:
        raise TokenRejected("J4", "its sub is not the SPIFFE ID of a workload in its one spelling.")
    return identity


def _key(bundle: Mapping[str, Any] | None, key_id: str, algorithm: str) -> ECKey:
    if bundle is None:
        raise TokenRejected("J7", "its trust domain is not trusted here.")
    named = [k for k in bundle["keys"] if k.get("kid") == key_id and k.get("use") == USE]
    if len(named) != 1:
        raise TokenRejected("J7", "the bundle does not hold exactly one such key.")
    # joserfc knows the uses sig and enc only; the SPIFFE use was checked above.
    parameters = {name: named[0][name] for name in ("kty", "crv", "x", "y") if name in named[0]}
    try:
        key = ECKey.import_key(parameters)
    except (JoseError, ValueError, KeyError):
        raise TokenRejected("J7", "the key in the bundle is not an elliptic-curve key.") from None
    if ALGORITHM_OF_CURVE.get(key.curve_name) != algorithm:
        raise TokenRejected("J2", "its alg is not the one of its key.")
    return key


def _check_audience(claims: dict[str, Any], audience: str) -> None:
    found = claims.get("aud")
    audiences = [found] if isinstance(found, str) else found
    if not isinstance(audiences, list) or not all(isinstance(a, str) for a in audiences):
        raise TokenRejected("J5", "it has no aud, or a malformed one.")
    if not audience or audience not in audiences:
        raise TokenRejected("J5", "it is meant for another audience.")


def _check_times(claims: dict[str, Any], now: dt.datetime) -> None:
    moment = now.timestamp()
    if "exp" not in claims:
        raise TokenRejected("J6", "it has no exp.")
    if _date(claims, "exp") + LEEWAY_SECONDS <= moment:
        raise TokenRejected("J6", "it has expired.")
    for name in ("nbf", "iat"):
        if name in claims and _date(claims, name) - LEEWAY_SECONDS > moment:
            raise TokenRejected("J6", f"its {name} lies in the future.")


def _date(claims: dict[str, Any], name: str) -> float:
    value = claims[name]
    # bool is an int to Python, and not a NumericDate (RFC 7519 section 2).
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MAX_DATE:
        raise TokenRejected("J6", f"its {name} is no date.")
    return float(value)
