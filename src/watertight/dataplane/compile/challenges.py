"""What the gateway says when a token does not do: ``WWW-Authenticate`` (RFC 6750 section 3).

``error_description`` is one of our own sentences, never anything of the token. Before a signature
is verified it says what whoever wrote the token knows, or what every right token shows: which
issuer and audience are asked for is no secret. Wrong signatures and unknown keys are one to it.
"""

from watertight.dataplane.compile import retries
from watertight.dataplane.compile.blocks import Json
from watertight.dataplane.compile.conditions import cel, details
from watertight.model.system import Limit, Per, Requirement

MALFORMED = "malformed token"
"""The policy that refuses what is no compact JWS; RBAC would answer it 403."""
OTHER_SCHEME = "another scheme"
"""That which refuses what is no bearer token at all: to RFC 6750 section 3.1 there is none."""
METADATA = "watertight.challenge"
WHY = "why"
"""Under which the script that looks at a verified token leaves its sentence (:mod:`.tokens`)."""

_EXPIRED = "the token has expired"
NOT_YET = "the token is not valid yet (nbf)"
AUDIENCE = "the token is for another audience (aud)"
_FORM = "the token is malformed"
_AUDIENCE_REFUSED = "Audiences_in_Jwt_are_not_allowed"
_DESCRIBED = {
    _EXPIRED: ("{Jwt_is_expired}",),
    NOT_YET: ("{Jwt_not_yet_valid}",),
    "the token is of another issuer (iss)": ("{Jwt_issuer_is_not_configured}",),
    # Envoy says the same of a lifetime that is missing or too long as of a signature.
    "no key of the issuer verifies the token, or its exp is missing or too far away": (
        "{Jwt_verification_fails}",
        "{Jwks_doesn",
        "{Jwt_ED25519_signature_",
        "{Jwt_header_[alg]_is_not_supported}",
    ),
    _FORM: (
        "{Jwt_is_not_in_the_form_of_",
        "{Jwt_header_",
        "{Jwt_payload_",
        "{Jwt_signature_is_an_invalid_",
    ),
}
"""Sentences, each for what ``jwt_authn`` calls it in ``%RESPONSE_CODE_DETAILS%``; first match."""


def local_replies(realm: str) -> Json:
    """``local_reply_config`` of the gateway's connection manager. An app's own 401 is the app's.

    Without a token no error is named, as section 3.1 has it.
    """
    bearer = f'Bearer realm="{realm}"'
    invalid = f'{bearer}, error="invalid_token"'
    lacks, scopes = (f"%METADATA(ROUTE:{METADATA}:{key})%" for key in ("lacks", "scopes"))
    judged = f"%DYNAMIC_METADATA({METADATA}:{WHY})%"
    return {
        "mappers": [
            # Envoy calls these three 403; RFC 6750 section 3.1 has 401 for whatever is wrong with
            # the token.
            _mapper(_refused_by(OTHER_SCHEME)) | _challenge(bearer) | {"status_code": 401},
            _mapper(_refused_by(MALFORMED))
            | _challenge(invalid + _described(_FORM))
            | {"status_code": 401},
            _mapper(details(_AUDIENCE_REFUSED))
            | _challenge(invalid + _described(AUDIENCE))
            | {"status_code": 401},
            _mapper(details("Jwt_is_missing")) | _challenge(bearer),
            *(
                _mapper(_both(_status(401), details(*names)))
                | _challenge(invalid + _described(sentence))
                for sentence, names in _DESCRIBED.items()
            ),
            _mapper(_both(_status(401), details("lua_response")))
            | _challenge(invalid + _described(judged)),
            _mapper(_status(401)) | _challenge(invalid),
            retries.too_long(),
            _mapper(_both(_status(403), _requires_token()))
            | _challenge(f'{bearer}, error="insufficient_scope"{lacks}{scopes}'),
        ]
    }


def route_metadata(require: Requirement | None, limit: Limit | None) -> Json:
    """In a route's ``filter_metadata``: what its 403 says is missing."""
    if require is None:
        return {}
    scopes = f', scope="{" ".join(require.scopes)}"' if require.scopes else ""
    lacks = _described(f"the token lacks {what}") if (what := _demanded(require, limit)) else ""
    return {METADATA: {"token": "required", "scopes": scopes, "lacks": lacks}}


def _demanded(require: Requirement, limit: Limit | None) -> str:
    """What a good token may lack there, without any value."""
    counted = limit is not None and limit.per is Per.SUBJECT
    kinds = {
        "a scope": bool(require.scopes),
        "a claim": bool(require.claims or require.any_claims),
        "a sub, client_id or azp": counted,
    }
    return " or ".join(kind for kind, asked in kinds.items() if asked)


def _described(sentence: str) -> str:
    return f', error_description="{sentence}"'


def _mapper(condition: Json) -> Json:
    return {"filter": condition}


def _challenge(value: str) -> Json:
    header = {"key": "www-authenticate", "value": value}
    return {"headers_to_add": [{"header": header, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}]}


def _refused_by(policy: str) -> Json:
    return details(f"matched_policy[{policy.replace(' ', '_')}]")


def _requires_token() -> Json:
    return cel(f"'{METADATA}' in xds.route_metadata.filter_metadata")


def _status(status: int) -> Json:
    value = {"default_value": status, "runtime_key": "watertight.challenge_at"}
    return {"status_code_filter": {"comparison": {"op": "EQ", "value": value}}}


def _both(*conditions: Json) -> Json:
    return {"and_filter": {"filters": list(conditions)}}
