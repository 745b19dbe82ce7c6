"""Tokens at the gateway: whatever is not exactly the right token must open nothing.

RFC 7519, RFC 8725 (best practices) and RFC 9068 (access tokens). Most of these are signed with the
issuer's real key, which the operator lends for the proof: a wrong signature would hide the rule.
"""

import base64
import hmac
import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from watertight.attack.arena import Arena
from watertight.attack.probe import Observation, Outcome, Probe
from watertight.dataplane.attacks import edge
from watertight.dataplane.attacks.edge import CHANNEL, Edge, ask, right_token, to_route
from watertight.dataplane.attacks.make import attack, use
from watertight.dataplane.attacks.replies import AT_THE_EDGE, used
from watertight.model.system import Gateway, Per, Requirement, Route, System

YEAR_SECONDS = 31_536_000
HOUR_SECONDS = 3_600
TIMES = {"exp", "iat", "nbf"}
NO_TIMES: tuple[Any, ...] = (
    *(10**12, 2**53, 2**63 - 1, 2**63, 2**63 + 1024, 2**63 + 1025, 2**64 - 1, 2**64, 10**30),
    *(9.2233720368547758e18, 1e300, -1, -(2**63), "9999999999", True, [], {}),
)
"""Of ``exp``: far away, where the sums of a verifier overflow, and no number at all."""
NAMES = ("sub", "client_id", "azp")
"""Claims that become a header, or what a limit counts by."""
BLURRED: tuple[Any, ...] = (
    *("watertight-verify ", "watertight-verify   ", " watertight-verify", "watertight-verify\t"),
    *("\twatertight-verify", "watertight-verify\u00a0", "watertight-verify\u2003", "", " "),
    *("watertight\u0000verify", "watertight-verify\u007f", "watertight-ver\u0131fy", 7, ["x"], {}),
)
"""Of a name: what is another one, or none, once it is a header (RFC 9110 section 5.5)."""


def probes(system: System) -> Iterator[Probe]:
    """For every route that requires a token."""
    gateway = system.gateway
    for route in gateway.routes if gateway else ():
        if route.require is None or gateway is None:
            continue
        request = to_route(gateway, route)
        where = f"at {request.method} {request.path}"
        plain = (request, route)
        yield attack("token.none", CHANNEL, f"no token {where}", _bare, *plain)
        yield attack("token.garbage", CHANNEL, f"a token of garbage {where}", _garbage, *plain)
        yield attack(
            "token.unsigned", CHANNEL, f"alg none, all claims right, {where}", _unsigned, *plain
        )
        yield attack(
            "token.wrong-key", CHANNEL, f"signed with a key of ours, {where}", _wrong_key, *plain
        )
        yield attack(
            "token.in-query", CHANNEL, f"a right token in the query {where}", _query, *plain
        )
        yield attack("token.padded", CHANNEL, f"a right token with `=` {where}", _padded, *plain)
        yield attack(
            "token.other-scheme", CHANNEL, f"a right token after `DPoP` {where}", _scheme, *plain
        )
        yield use(
            "token.scheme-case", CHANNEL, f"a right token after `bEARER` {where}", _case, *plain
        )
        yield attack(
            "token.odd-expiry", CHANNEL, f"exp that overflows or is no time {where}", _times, *plain
        )
        yield attack(
            "token.nearly-audience", CHANNEL, f"spellings of the audience {where}", _aud, *plain
        )
        yield attack(
            "token.blurred-name",
            CHANNEL,
            f"names that headers make others of {where}",
            _names,
            *plain,
        )
        for identifier, (what, claims) in wrong_claims(gateway, route, route.require).items():
            attempt = f"{what} {where}"
            yield attack(identifier, CHANNEL, attempt, _claims, request, route, claims)
        yield attack(
            "token.other-type",
            CHANNEL,
            f"typ logout+jwt {where}",
            _header,
            *plain,
            {"typ": "logout+jwt"},
        )
        yield attack(
            "token.critical",
            CHANNEL,
            f"a critical header that nobody knows {where}",
            _header,
            *plain,
            {"crit": ["watertight"], "watertight": True},
        )
        yield attack(
            "token.public-key-as-secret",
            CHANNEL,
            f"HS256 with the issuer's public key for a secret {where}",
            _confused,
            *plain,
        )
        yield attack(
            "token.brings-its-key",
            CHANNEL,
            f"a key of ours in the token's own header {where}",
            _brings_its_key,
            *plain,
        )


def wrong_claims(
    gateway: Gateway, route: Route, require: Requirement
) -> dict[str, tuple[str, dict[str, Any]]]:
    """Probe id → what is wrong, and the claims that make it so; times are seconds from now."""
    issuer = gateway.issuers[require.issuer].issuer
    later = {"exp": 2 * HOUR_SECONDS}
    wrong: dict[str, tuple[str, dict[str, Any]]] = {
        "token.wrong-audience": ("another audience", {"aud": ["watertight-elsewhere"]}),
        "token.wrong-issuer": ("another issuer", {"iss": f"{issuer}.elsewhere"}),
        "token.expired": ("expired an hour ago", {"iat": -2 * HOUR_SECONDS, "exp": -HOUR_SECONDS}),
        "token.no-expiry": ("no exp", {"exp": None}),
        "token.long-lived": ("good for ten years", {"exp": 10 * YEAR_SECONDS}),
        "token.not-yet-valid": ("valid in an hour", {"nbf": HOUR_SECONDS, **later}),
        "token.issued-later": ("issued in an hour", {"iat": HOUR_SECONDS, **later}),
        "token.odd-subject": ("a sub of two lines", {"sub": "watertight\nverify"}),
        **_lacking_claims(require),
    }
    if route.limit is not None and route.limit.per is Per.SUBJECT:
        nobody = {"sub": None, "client_id": None, "azp": None}
        wrong["token.no-subject"] = ("no sub, no client_id and no azp", nobody)
    if require.scopes:
        scopes = " ".join(f"{scope}-not" for scope in require.scopes)
        wrong["token.no-scope"] = ("no scope at all", {"scope": None})
        wrong["token.other-scope"] = (f"scope {scopes}", {"scope": scopes})
        nearly = [near for scope in require.scopes for near in (f"{scope}-not", f"not-{scope}")]
        wrong["token.nearly-in-scp"] = (f"scp {nearly}", {"scope": None, "scp": nearly})
        right = {"scope": scopes, "scp": list(require.scopes)}
        wrong["token.scp-beside-scope"] = (f"scope {scopes} and the right scp", right)
    return wrong


def _lacking_claims(require: Requirement) -> dict[str, tuple[str, dict[str, Any]]]:
    right = edge.demanded_claims(require)
    if not right:
        return {}
    flat = {".".join(path): values for path, values in _leaves(right)}
    none: dict[str, Any] = dict.fromkeys(right)
    return {
        "token.no-claim": (f"without {', '.join(right)}", none),
        "token.nearly-claim": (
            "claims that hold what is demanded, and more",
            _each(right, lambda value: f"{value}-not"),
        ),
        "token.misplaced-claim": (
            "the claims elsewhere in the token",
            {**none, "watertight": right, **{k: v for k, v in flat.items() if k not in right}},
        ),
    }


def _leaves(claims: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[Any, Any]]:
    for name, value in claims.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, (*path, name))
        else:
            yield (*path, name), value


def _each(claims: Mapping[str, Any], change: Callable[[Any], Any]) -> dict[str, Any]:
    return {
        name: _each(value, change) if isinstance(value, Mapping) else [change(v) for v in value]
        for name, value in claims.items()
    }


async def _judge(arena: Arena, route: Route, request: Edge) -> Observation:
    return await edge.judged(arena, route, await ask(request))


async def _bare(arena: Arena, request: Edge, route: Route) -> Observation:
    return await _judge(arena, route, request)


async def _garbage(arena: Arena, request: Edge, route: Route) -> Observation:
    return await _judge(arena, route, request.bearing("watertight.is.garbage"))


async def _claims(arena: Arena, request: Edge, route: Route, claims: dict[str, Any]) -> Observation:
    now = int(time.time())
    timed = {k: v + now if k in TIMES and v is not None else v for k, v in claims.items()}
    token = await right_token(arena, route, **timed)
    return await _judge(arena, route, request.bearing(token)) if token else edge.no_key(route)


async def _each_of(
    arena: Arena, request: Edge, route: Route, name: str, values: Iterable[Any]
) -> Observation:
    """One right token after another, but for one claim; what came of the first that opened."""
    seen = edge.no_key(route)
    for value in values:
        token = await right_token(arena, route, **{name: value})
        if token is None:
            return edge.no_key(route)
        seen = await _judge(arena, route, request.bearing(token))
        if seen.outcome is not Outcome.REFUSED:
            return replace(seen, detail=f"{name} {value!r}: {seen.detail}")
    return seen


async def _times(arena: Arena, request: Edge, route: Route) -> Observation:
    return await _each_of(arena, request, route, "exp", NO_TIMES)


async def _names(arena: Arena, request: Edge, route: Route) -> Observation:
    """Two of an issuer's users must never be one to the app, nor to a limit."""
    for name in NAMES:
        seen = await _each_of(arena, request, route, name, BLURRED)
        if seen.outcome is not Outcome.REFUSED:
            break
    return seen


async def _aud(arena: Arena, request: Edge, route: Route) -> Observation:
    """RFC 7519 section 4.1.3: the audience is one string, and not what an address looks like."""
    right = request.gateway.issuers[route.require.issuer].audiences if route.require else ()
    return await _each_of(arena, request, route, "aud", nearly_audiences(right))


def nearly_audiences(right: Sequence[str]) -> list[Any]:
    """What somebody may take for one of the audiences, and is none of them."""
    bare = [re.sub(r"^https?://|/+$", "", audience) for audience in right]
    near: list[Any] = [
        form.format(name)
        for name in dict.fromkeys((*right, *bare))
        for form in ("{}/", "{}//", "https://{}", "http://{}", "https://{}/", " {}", "{} ", "{}-")
    ]
    near += [f"{audience} other" for audience in right]
    near += [audience.swapcase() for audience in right] + bare
    wrong = [audience for audience in dict.fromkeys(near) if audience not in right]
    return [*wrong, wrong, [list(right)], dict.fromkeys(right, True), [], ""]


async def _header(arena: Arena, request: Edge, route: Route, header: dict[str, Any]) -> Observation:
    token = await right_token(arena, route, header=header)
    return await _judge(arena, route, request.bearing(token)) if token else edge.no_key(route)


async def _query(arena: Arena, request: Edge, route: Route) -> Observation:
    token = await right_token(arena, route)
    if token is None:
        return edge.no_key(route)
    path = f"{request.path}?access_token={token}"
    return await _judge(arena, route, Edge(request.gateway, request.method, path))


async def _padded(arena: Arena, request: Edge, route: Route) -> Observation:
    token = await right_token(arena, route)
    return (
        await _judge(arena, route, request.bearing(f"{token}==")) if token else edge.no_key(route)
    )


async def _scheme(arena: Arena, request: Edge, route: Route) -> Observation:
    token = await right_token(arena, route)
    if token is None:
        return edge.no_key(route)
    return await _judge(arena, route, request.saying("authorization", f"DPoP {token}"))


async def _case(arena: Arena, request: Edge, route: Route) -> Observation:
    """The scheme is compared without case (RFC 9110 section 11.1)."""
    token = await right_token(arena, route)
    if token is None:
        return edge.no_key(route)
    return used(await ask(request.saying("authorization", f"bEARER {token}")), AT_THE_EDGE)


async def _unsigned(arena: Arena, request: Edge, route: Route) -> Observation:
    token = f"{_part({'alg': 'none', 'typ': 'at+jwt'})}.{_part(_right(request, route))}."
    return await _judge(arena, route, request.bearing(token))


async def _wrong_key(arena: Arena, request: Edge, route: Route) -> Observation:
    key = ec.generate_private_key(ec.SECP256R1())
    token = _signed(key, {"alg": "ES256", "typ": "at+jwt"}, _right(request, route))
    return await _judge(arena, route, request.bearing(token))


async def _brings_its_key(arena: Arena, request: Edge, route: Route) -> Observation:
    """RFC 7515 section 4.1.3: a key in the header proves only that its bearer has a key."""
    key = ec.generate_private_key(ec.SECP256R1())
    at = key.public_key().public_numbers()
    brought = {
        "kty": "EC",
        "crv": "P-256",
        "x": _b64(at.x.to_bytes(32)),
        "y": _b64(at.y.to_bytes(32)),
    }
    header = {"alg": "ES256", "typ": "at+jwt", "jwk": brought}
    token = _signed(key, header, _right(request, route))
    return await _judge(arena, route, request.bearing(token))


def _signed(key: ec.EllipticCurvePrivateKey, header: dict[str, Any], claims: dict[str, Any]) -> str:
    """ES256: the library signs, the token is put together here."""
    signed = f"{_part(header)}.{_part(claims)}"
    r, s = decode_dss_signature(key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
    return f"{signed}.{_b64(r.to_bytes(32) + s.to_bytes(32))}"


async def _confused(arena: Arena, request: Edge, route: Route) -> Observation:
    """RFC 8725 section 2.1: everybody knows a public key, so it must never be a secret."""
    public = await arena.public_key(route.require.issuer) if route.require else None
    if public is None:
        return edge.no_key(route)
    for secret in (public, public.strip()):
        signed = f"{_part({'alg': 'HS256', 'typ': 'at+jwt'})}.{_part(_right(request, route))}"
        token = f"{signed}.{_b64(hmac.digest(secret, signed.encode(), 'sha256'))}"
        seen = await _judge(arena, route, request.bearing(token))
        if seen.outcome is not Outcome.REFUSED:
            break
    return seen


def _right(request: Edge, route: Route) -> dict[str, Any]:
    if route.require is None:
        return {}
    issuer = request.gateway.issuers[route.require.issuer]
    now = int(time.time())
    return {
        "iss": issuer.issuer,
        "aud": list(issuer.audiences),
        "sub": "watertight-verify",
        "scope": " ".join(route.require.scopes),
        **edge.demanded_claims(route.require),
        "iat": now,
        "exp": now + 300,
    }


def _part(content: dict[str, Any]) -> str:
    return _b64(json.dumps(content).encode())


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
