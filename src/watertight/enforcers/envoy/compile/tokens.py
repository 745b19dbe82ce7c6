"""JWTs at the gateway: Envoy's ``jwt_authn``, and the checks that it does not make.

Envoy's filter verifies signature, issuer, audience, expiry. Measured, it lets through an unknown
``crit``, ``b64``, a ``typ`` of another kind of token, ``iat`` in the future and ``=`` padding;
what stands here refuses these too (RFC 7515 sections 2 and 4.1.11, RFC 9068 section 4, RFC 8725).
"""

from collections.abc import Iterable, Mapping

from watertight.enforcers.envoy.compile.blocks import ADS, Json, extension, seconds, typed
from watertight.enforcers.envoy.compile.headers import SUBJECT_HEADER
from watertight.enforcers.envoy.compile.refusal import NotCompilable
from watertight.model.system import Gateway, Issuer, Requirement, Route

JWT = "envoy.filters.http.jwt_authn"
TOKEN_FORM = "watertight.token_form"  # noqa: S105
TOKEN_TIME = "watertight.token_time"  # noqa: S105
_KIND = "extensions.filters.http.jwt_authn.v3"
_RBAC_KIND = "extensions.filters.http.rbac.v3"

CLOCK_SKEW_SECONDS = 5
MAX_LIFETIME_SECONDS = 86_400
"""A token that is good for more than a day is a password."""
CACHED_TOKENS = 1_000
"""Verdicts kept per provider. Safe only because new keys arrive as a new filter (ECDS), with an
empty cache; Envoy itself never drops the verdict of a withdrawn key."""

_SCOPE = "scope"
_SUBJECT = "[!-~][ -~]*"
"""Printable ASCII (as OpenID Connect Core section 2 has it): it becomes a header. Its length is
bounded by that of all headers; Envoy refuses a regular expression that counts to 255."""
_TYPES = r"(?i)(application/)?(at\+)?jwt"
_COMPACT = r"[Bb][Ee][Aa][Rr][Ee][Rr] +[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+"

_ISSUED_LATER = f"""
function envoy_on_request(handle)
  local verified = handle:streamInfo():dynamicMetadata():get("{JWT}")
  for _, part in pairs(verified or {{}}) do
    local issued = type(part) == "table" and part["iat"] or nil
    if issued ~= nil and (type(issued) ~= "number"
        or issued > handle:timestamp() / 1000 + {CLOCK_SKEW_SECONDS}) then
      handle:respond({{[":status"] = "401"}}, "token issued in the future")
      return
    end
  end
end
"""


def form_filter() -> Json:
    """Before verification: a bearer token must be exactly three base64url parts, unpadded."""
    bearer = {"prefix": "bearer ", "ignore_case": True}
    return extension(
        TOKEN_FORM,
        f"{_RBAC_KIND}.RBAC",
        rules={
            "action": "DENY",
            "policies": {
                "not a compact JWS": {
                    "permissions": [
                        {
                            "and_rules": {
                                "rules": [
                                    _authorization(bearer),
                                    {"not_rule": _authorization(_regex(_COMPACT))},
                                ]
                            }
                        }
                    ],
                    "principals": [{"any": True}],
                }
            },
        },
    )


def verification_filter() -> Json:
    """The verification itself: by ECDS, so that new keys never touch the listener."""
    return {
        "name": JWT,
        "config_discovery": {
            "config_source": dict(ADS),
            "type_urls": [typed(f"{_KIND}.JwtAuthentication")["@type"]],
        },
    }


def time_filter() -> Json:
    """After verification: ``iat`` must not be in the future."""
    return extension(
        TOKEN_TIME,
        "extensions.filters.http.lua.v3.Lua",
        default_source_code={"inline_string": _ISSUED_LATER},
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
            strip_failure_response=True,
        ),
    }


def _provider(issuer: Issuer, key_set: str) -> Json:
    return {
        "issuer": issuer.issuer,
        "audiences": list(issuer.audiences),
        "local_jwks": {"inline_string": key_set},
        "from_headers": [{"name": "Authorization", "value_prefix": "Bearer "}],
        "require_expiration": True,
        "max_lifetime": seconds(MAX_LIFETIME_SECONDS),
        "clock_skew_seconds": CLOCK_SKEW_SECONDS,
        "payload_in_metadata": issuer.name,
        "header_in_metadata": _header(issuer.name),
        "normalize_payload_in_metadata": {"space_delimited_claims": [_SCOPE]},
        "claim_to_headers": [{"header_name": SUBJECT_HEADER, "claim_name": "sub"}],
        "jwt_cache_config": {"jwt_cache_size": CACHED_TOKENS},
    }


def per_route(require: Requirement | None) -> Json:
    """``typed_per_filter_config`` of the three token filters: which issuer, or none at all."""
    if require is None:
        return {
            TOKEN_FORM: typed(f"{_RBAC_KIND}.RBACPerRoute"),
            JWT: typed(f"{_KIND}.PerRouteConfig", disabled=True),
            TOKEN_TIME: typed("extensions.filters.http.lua.v3.LuaPerRoute", disabled=True),
        }
    return {JWT: typed(f"{_KIND}.PerRouteConfig", requirement_name=require.issuer)}


def principal(route: Route, gateway: Gateway) -> Json:
    """Who may use a route: the bearer of a token of its issuer that has every scope."""
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
    header = _header(require.issuer)
    a_type = {"string_match": _regex(_TYPES)}
    return _all(
        _claim(require.issuer, "sub", {"string_match": _regex(_SUBJECT)}),
        {"or_ids": {"ids": [_claim(header, "typ", a_type), _absent(header, "typ")]}},
        _absent(header, "crit"),
        _absent(header, "b64"),
        *(_scope(require.issuer, scope) for scope in require.scopes),
    )


def _scope(issuer: str, scope: str) -> Json:
    one = {"list_match": {"one_of": {"string_match": {"exact": scope}}}}
    return _claim(issuer, _SCOPE, one)


def _header(issuer: str) -> str:
    """Where in the metadata the JOSE header of a verified token stands."""
    return f"{issuer}.header"


def _claim(part: str, claim: str, value: Json) -> Json:
    return {
        "sourced_metadata": {
            "metadata_source": "DYNAMIC",
            "metadata_matcher": {
                "filter": JWT,
                "path": [{"key": part}, {"key": claim}],
                "value": value,
            },
        }
    }


def _absent(part: str, claim: str) -> Json:
    return {"not_id": _claim(part, claim, {"present_match": True})}


def _all(*ids: Json) -> Json:
    return {"and_ids": {"ids": list(ids)}}


def _authorization(match: Json) -> Json:
    return {"header": {"name": "authorization", "string_match": match}}


def _regex(pattern: str) -> Json:
    return {"safe_regex": {"regex": pattern}}


def filters() -> Iterable[Json]:
    """All three, in order."""
    return form_filter(), verification_filter(), time_filter()
