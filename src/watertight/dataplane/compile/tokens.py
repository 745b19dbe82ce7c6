"""JWTs at the gateway: Envoy's ``jwt_authn``, and the checks that it does not make.

Envoy's filter verifies signature, issuer, audience, expiry. Measured, it lets through an unknown
``crit``, ``b64``, a ``typ`` of another kind of token, ``iat`` in the future, ``=`` padding, an
``exp`` so large that its sum overflows, and audiences that differ by a scheme or a final slash;
what stands here refuses these too (RFC 7515 sections 2 and 4.1.11, RFC 7519 section 4.1.3, RFC 9068
section 4, RFC 8725).
"""

from collections.abc import Iterable, Mapping

from watertight.dataplane.compile import challenges
from watertight.dataplane.compile.blocks import ADS, Json, extension, seconds, typed
from watertight.dataplane.compile.headers import CLIENT_HEADER, SUBJECT_HEADER
from watertight.dataplane.compile.refusal import NotCompilable
from watertight.model.system import Claim, Gateway, Issuer, Per, Requirement, Route

JWT = "envoy.filters.http.jwt_authn"
TOKEN_FORM = "watertight.token_form"  # noqa: S105
TOKEN_CLAIMS = "watertight.token_claims"  # noqa: S105
_KIND = "extensions.filters.http.jwt_authn.v3"
_RBAC_KIND = "extensions.filters.http.rbac.v3"

CLOCK_SKEW_SECONDS = 5
MAX_LIFETIME_SECONDS = 86_400
"""A token that is good for more than a day is a password."""
CACHED_TOKENS = 1_000
"""Verdicts kept per provider. Safe only because new keys arrive as a new filter (ECDS), with an
empty cache; Envoy itself never drops the verdict of a withdrawn key."""

_SCOPE_CLAIMS = ("scope", "scp")
"""RFC 9068 section 2.2.3, and what Entra and Okta write."""
_SUBJECT_KEY = "subject"
_AUDIENCES_KEY = "audiences"
_JUDGED: Json = {"string_match": {"exact": "yes"}}
_BEARER = "[Bb][Ee][Aa][Rr][Ee][Rr]"
_COMPACT = _BEARER + r" +[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+"

_JUDGE = f"""
local TYPES = {{jwt = true, ["at+jwt"] = true, ["application/jwt"] = true,
  ["application/at+jwt"] = true}}

local function is_name(text)
  return type(text) == "string" and text:match("^[ -~]+$") ~= nil
    and not text:match("^ ") and not text:match(" $")
end

local function is_absent_or_name(claim)
  return claim == nil or is_name(claim)
end

local function is_time(value, earliest, latest)
  return type(value) == "number" and value >= earliest and value <= latest
end

local function is_meant_for(given, audiences)
  for _, audience in pairs(audiences) do
    for _, one in pairs(type(given) == "table" and given or {{given}}) do
      if one == audience then
        return true
      end
    end
  end
  return false
end

local function what_is_wrong(header, payload, audiences, now)
  local kind = header["typ"]
  local latest = now + {CLOCK_SKEW_SECONDS}
  if kind ~= nil and (type(kind) ~= "string" or TYPES[kind:lower()] ~= true) then
    return "the token is of another kind (typ)"
  end
  if header["crit"] ~= nil or header["b64"] ~= nil then
    return "the token has extensions in its header (crit, b64)"
  end
  if not is_time(payload["exp"], now - {CLOCK_SKEW_SECONDS}, latest + {MAX_LIFETIME_SECONDS}) then
    return "the token has expired, or its exp is too far away"
  end
  if payload["nbf"] ~= nil and not is_time(payload["nbf"], 0, latest) then
    return "{challenges.NOT_YET}"
  end
  if payload["iat"] ~= nil and not is_time(payload["iat"], 0, latest) then
    return "the token is issued in the future (iat)"
  end
  if not is_meant_for(payload["aud"], audiences) then
    return "{challenges.AUDIENCE}"
  end
  if not (is_absent_or_name(payload["sub"]) and is_absent_or_name(payload["client_id"])
      and is_absent_or_name(payload["azp"])) then
    return "the token has a sub, client_id or azp that is no name"
  end
end

function envoy_on_request(handle)
  local metadata = handle:streamInfo():dynamicMetadata()
  local verified = metadata:get("{JWT}") or {{}}
  local audiences = handle:metadata():get("{_AUDIENCES_KEY}") or {{}}
  for name, payload in pairs(verified) do
    local header = verified[name .. ".header"]
    if header ~= nil then
      local why = what_is_wrong(header, payload, audiences, handle:timestamp() / 1000)
      if why ~= nil then
        metadata:set("{challenges.METADATA}", "{challenges.WHY}", why)
        handle:respond({{[":status"] = "401"}}, "token refused")
        return
      end
      local client = payload["client_id"] or payload["azp"]
      if client ~= nil then
        handle:headers():replace("{CLIENT_HEADER}", client)
      end
      if payload["sub"] ~= nil then
        metadata:set("{TOKEN_CLAIMS}", "{_SUBJECT_KEY}", "sub " .. payload["sub"])
      elseif client ~= nil then
        metadata:set("{TOKEN_CLAIMS}", "{_SUBJECT_KEY}", "client " .. client)
      end
      metadata:set("{TOKEN_CLAIMS}", "judged", "yes")
    end
  end
end
"""
"""A script that fails lets the request go on: so RBAC asks for the mark that only its end sets.

A time that is no number is neither smaller nor larger than another. Whom the token must be meant
for stands in the route's metadata (:func:`route_metadata`).

``sub``, ``client_id`` and ``azp`` become headers, and the key that a limit counts by. So what would
be another value there is refused: a blank at either end is no part of a field's value (RFC 9110
section 5.5), and ``alice`` and the same with a space behind it would be one; what is no printable
ASCII has no spelling there that all read alike. A client that is nobody's agent has no ``sub``, and
is never taken for a user of the same name.
"""


def form_filter() -> Json:
    """Before verification: what is in ``Authorization`` is a bearer token, in exactly three
    base64url parts, unpadded; the scheme in any case (RFC 9110 section 11.1)."""
    given = {"header": {"name": "authorization", "present_match": True}}
    bearer = _authorization(_regex(f"{_BEARER}([ \t].*)?"))
    return extension(
        TOKEN_FORM,
        f"{_RBAC_KIND}.RBAC",
        rules={
            "action": "DENY",
            "policies": {
                challenges.OTHER_SCHEME: _anyone(given, {"not_rule": bearer}),
                challenges.MALFORMED: _anyone(
                    bearer, {"not_rule": _authorization(_regex(_COMPACT))}
                ),
            },
        },
    )


def _anyone(*rules: Json) -> Json:
    return {
        "permissions": [{"and_rules": {"rules": list(rules)}}],
        "principals": [{"any": True}],
    }


def verification_filter() -> Json:
    """The verification itself: by ECDS, so that new keys never touch the listener."""
    return {
        "name": JWT,
        "config_discovery": {
            "config_source": dict(ADS),
            "type_urls": [typed(f"{_KIND}.JwtAuthentication")["@type"]],
        },
    }


def claims_filter() -> Json:
    """After verification: kind, times, audience and names; and whose bucket a request is in."""
    return extension(
        TOKEN_CLAIMS,
        "extensions.filters.http.lua.v3.Lua",
        default_source_code={"inline_string": _JUDGE},
    )


def verification(gateway: Gateway, keys: Mapping[str, str]) -> Json:
    """The body of the ECDS resource: one provider for each issuer that a route asks for."""
    used = {route.require.issuer for route in gateway.routes if route.require is not None}
    issuers = [issuer for name, issuer in gateway.issuers.items() if name in used]
    return {
        "name": JWT,
        "typed_config": typed(
            f"{_KIND}.JwtAuthentication",
            providers={issuer.name: _provider(issuer, keys[issuer.name]) for issuer in issuers},
            requirement_map={issuer.name: {"provider_name": issuer.name} for issuer in issuers},
            # Its own challenge would quote the path that was asked for.
            strip_failure_response=True,
        ),
    }


def _provider(issuer: Issuer, key_set: str) -> Json:
    return {
        "issuer": issuer.issuer,
        "audiences": list(issuer.audiences),
        "local_jwks": {"inline_string": key_set},
        # The scheme was judged before; Envoy would compare it case by case.
        "from_headers": [{"name": "Authorization", "value_prefix": " "}],
        "require_expiration": True,
        "max_lifetime": seconds(MAX_LIFETIME_SECONDS),
        "clock_skew_seconds": CLOCK_SKEW_SECONDS,
        "payload_in_metadata": issuer.name,
        "header_in_metadata": _header(issuer.name),
        "normalize_payload_in_metadata": {"space_delimited_claims": list(_SCOPE_CLAIMS)},
        "claim_to_headers": [{"header_name": SUBJECT_HEADER, "claim_name": "sub"}],
        "jwt_cache_config": {"jwt_cache_size": CACHED_TOKENS},
    }


def per_route(require: Requirement | None) -> Json:
    """``typed_per_filter_config`` of the three token filters: which issuer, or none at all."""
    if require is None:
        return {
            TOKEN_FORM: typed(f"{_RBAC_KIND}.RBACPerRoute"),
            JWT: typed(f"{_KIND}.PerRouteConfig", disabled=True),
            TOKEN_CLAIMS: typed("extensions.filters.http.lua.v3.LuaPerRoute", disabled=True),
        }
    return {JWT: typed(f"{_KIND}.PerRouteConfig", requirement_name=require.issuer)}


def route_metadata(issuer: Issuer | None) -> Json:
    """What :func:`claims_filter` finds in a route's ``filter_metadata``: the issuer's audiences.

    Envoy takes ``https://shop/`` for ``shop``; RFC 7519 section 4.1.3 compares strings.
    """
    if issuer is None:
        return {}
    return {TOKEN_CLAIMS: {_AUDIENCES_KEY: list(issuer.audiences)}}


def principal(route: Route, gateway: Gateway) -> Json:
    """Who may use a route: the bearer of a token of its issuer that has all that is demanded."""
    require = route.require
    if require is None:
        return {"any": True}
    if require.issuer not in gateway.issuers:
        raise NotCompilable(
            route.at,
            f"the route `{route.path}` requires the issuer `{require.issuer}`, "
            "which is not declared.",
            remedy="Declare it under `gateway.issuers`.",
        )
    limit = route.limit
    counted = [subject_is_known()] if limit and limit.per is Per.SUBJECT else []
    return _all(
        _metadata(TOKEN_CLAIMS, ("judged",), _JUDGED),
        *counted,
        *(_scope(require.issuer, scope) for scope in require.scopes),
        *(_claim(require.issuer, claim) for claim in require.claims),
        *_any_of(require),
    )


def subject_is_known() -> Json:
    """The principal that has a name to count by."""
    return _metadata(TOKEN_CLAIMS, (_SUBJECT_KEY,), {"present_match": True})


def subject_key() -> Json:
    """Where in the metadata the name stands that a limit per subject counts by."""
    return {"key": TOKEN_CLAIMS, "path": [{"key": _SUBJECT_KEY}]}


def _scope(issuer: str, scope: str) -> Json:
    """In ``scope``; in ``scp`` only where the token has no ``scope``."""
    usual, other = _SCOPE_CLAIMS
    one = {"list_match": {"one_of": {"string_match": {"exact": scope}}}}
    no_usual = {"not_id": _metadata(JWT, (issuer, usual), {"present_match": True})}
    there = _metadata(JWT, (issuer, other), one)
    return {"or_ids": {"ids": [_metadata(JWT, (issuer, usual), one), _all(no_usual, there)]}}


def _claim(issuer: str, claim: Claim) -> Json:
    match claim.value:
        case bool():
            exact: Json = {"bool_match": claim.value}
        case int():
            exact = {"double_match": {"exact": claim.value}}
        case str():
            exact = {"string_match": {"exact": claim.value}}
    either = {"or_match": {"value_matchers": [exact, {"list_match": {"one_of": exact}}]}}
    return _metadata(JWT, (issuer, *claim.path), either)


def _any_of(require: Requirement) -> Iterable[Json]:
    if require.any_claims:
        groups = [_all(*(_claim(require.issuer, c) for c in g)) for g in require.any_claims]
        yield {"or_ids": {"ids": groups}}


def _header(issuer: str) -> str:
    """Where in the metadata the JOSE header of a verified token stands."""
    return f"{issuer}.header"


def _metadata(writer: str, path: Iterable[str], value: Json) -> Json:
    return {
        "sourced_metadata": {
            "metadata_source": "DYNAMIC",
            "metadata_matcher": {
                "filter": writer,
                "path": [{"key": key} for key in path],
                "value": value,
            },
        }
    }


def _all(*ids: Json) -> Json:
    return {"and_ids": {"ids": list(ids)}}


def _authorization(match: Json) -> Json:
    return {"header": {"name": "authorization", "string_match": match}}


def _regex(pattern: str) -> Json:
    return {"safe_regex": {"regex": pattern}}


def filters() -> Iterable[Json]:
    """All three, in order."""
    return form_filter(), verification_filter(), claims_filter()
