"""What the gateway says when a token does not do: ``WWW-Authenticate`` (RFC 6750 section 3)."""

from watertight.enforcers.envoy.compile import retries
from watertight.enforcers.envoy.compile.blocks import Json
from watertight.enforcers.envoy.compile.conditions import cel, details
from watertight.model.system import Requirement

MALFORMED = "malformed token"
"""The policy that refuses what is no compact JWS; RBAC would answer it 403."""
METADATA = "watertight.challenge"


def local_replies(realm: str) -> Json:
    """``local_reply_config`` of the gateway's connection manager. An app's own 401 is the app's.

    Without a token no error is named, as section 3.1 has it.
    """
    bearer = f'Bearer realm="{realm}"'
    scopes = f"%METADATA(ROUTE:{METADATA}:scopes)%"
    return {
        "mappers": [
            _mapper(details(f"matched_policy[{MALFORMED.replace(' ', '_')}]"))
            | _challenge(f'{bearer}, error="invalid_token"')
            | {"status_code": 401},
            # Envoy calls it 403; RFC 6750 section 3.1 has 401 for whatever is wrong with the token.
            _mapper(details("Audiences_in_Jwt_are_not_allowed"))
            | _challenge(f'{bearer}, error="invalid_token"')
            | {"status_code": 401},
            _mapper(details("Jwt_is_missing")) | _challenge(bearer),
            _mapper(_status(401)) | _challenge(f'{bearer}, error="invalid_token"'),
            retries.too_long(),
            _mapper(_both(_status(403), _requires_token()))
            | _challenge(f'{bearer}, error="insufficient_scope"{scopes}'),
        ]
    }


def route_metadata(require: Requirement | None) -> Json:
    """In a route's ``filter_metadata``: what its 403 says is missing."""
    if require is None:
        return {}
    scopes = f', scope="{" ".join(require.scopes)}"' if require.scopes else ""
    return {METADATA: {"token": "required", "scopes": scopes}}


def _mapper(condition: Json) -> Json:
    return {"filter": condition}


def _challenge(value: str) -> Json:
    header = {"key": "www-authenticate", "value": value}
    return {"headers_to_add": [{"header": header, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}]}


def _requires_token() -> Json:
    return cel(f"'{METADATA}' in xds.route_metadata.filter_metadata")


def _status(status: int) -> Json:
    value = {"default_value": status, "runtime_key": "watertight.challenge_at"}
    return {"status_code_filter": {"comparison": {"op": "EQ", "value": value}}}


def _both(*conditions: Json) -> Json:
    return {"and_filter": {"filters": list(conditions)}}
