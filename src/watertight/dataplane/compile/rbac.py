"""Grants and identities as Envoy RBAC (``envoy.config.rbac.v3``).

Every HTTP filter chain of ours holds one RBAC filter whose own policy allows nothing; what is
allowed stands per virtual host or route in RDS. So a route without a policy is a closed one, and
a change of policy never touches a listener.
"""

from collections.abc import Iterable, Mapping, Sequence

from watertight.dataplane.compile import path_matchers
from watertight.dataplane.compile.blocks import Json, extension, typed
from watertight.dataplane.compile.refusal import NotCompilable
from watertight.model.system import Grant, HTTPGrant, Position
from watertight.model.templates import MAX_WILDCARDS, wildcard_texts

RBAC = "envoy.filters.http.rbac"
PEER = "watertight.peer"
"""Filter state: *all* URI SANs of the peer's certificate, joined by commas."""

ANY: Json = {"any": True}


def deny_all() -> Json:
    """The filter as it stands in a frozen listener: an ALLOW list with nothing on it."""
    return extension(
        RBAC, "extensions.filters.http.rbac.v3.RBAC", rules={"action": "ALLOW", "policies": {}}
    )


def remember_peer() -> Json:
    """Keeps *all* URI SANs of the peer's certificate for :func:`peer`.

    Envoy's SAN matchers, and RBAC's ``authenticated``, are content if *one* URI SAN fits; an
    X.509-SVID has exactly one (X509-SVID section 5.2). Compared as a whole, two do not fit.
    """
    return extension(
        "envoy.filters.http.set_filter_state",
        "extensions.filters.http.set_filter_state.v3.Config",
        on_request_headers=[peer_state()],
    )


def peer_state() -> Json:
    """The filter state in which they are kept."""
    return {
        "object_key": PEER,
        "factory_key": "envoy.string",
        "format_string": {"text_format_source": {"inline_string": "%DOWNSTREAM_PEER_URI_SAN%"}},
    }


def policies(named: Mapping[str, tuple[Sequence[Json], Sequence[Json]]]) -> Json:
    """``RBACPerRoute`` with these policies: name → (permissions, principals), each list an OR."""
    return {
        RBAC: typed(
            "extensions.filters.http.rbac.v3.RBACPerRoute",
            rbac={
                "rules": {
                    "action": "ALLOW",
                    "policies": {
                        name: {"permissions": list(permissions), "principals": list(principals)}
                        for name, (permissions, principals) in named.items()
                    },
                }
            },
        )
    }


def peer(spiffe_id: str) -> Json:
    """The principal: the peer's certificate names exactly this identity and no other."""
    exact = {"exact": spiffe_id}
    return {
        "and_ids": {
            "ids": [
                {"authenticated": {"principal_name": exact}},
                {"filter_state": {"key": PEER, "string_match": exact}},
            ]
        }
    }


def grants(declared: Iterable[Grant], at: Position) -> dict[str, Json]:
    """Permissions by the grant's own text; ``at`` is named if one cannot be enforced."""
    return {str(grant): _permission(grant, at) for grant in declared}


def _permission(grant: Grant, at: Position) -> Json:
    if isinstance(grant, HTTPGrant):
        return _all(_method(grant.method), path(grant.path, at))
    # gRPC over HTTP/2: always POST to /<service>/<method> (gRPC wire protocol, "Requests").
    return _all(_method("POST"), path(f"/{grant.service}/{grant.method}", at))


def _all(*rules: Json) -> Json:
    return {"and_rules": {"rules": list(rules)}}


def _method(name: str) -> Json:
    return {"header": {"name": ":method", "string_match": {"exact": name}}}


def path(template: str, at: Position) -> Json:
    """The permission for one path template; the query string never matters."""
    if path_matchers.is_literal(template):
        return {"url_path": {"path": {"exact": template}}}
    if (count := len(wildcard_texts(template))) > MAX_WILDCARDS:
        raise NotCompilable(
            at,
            f"the path `{template}` has {count} wildcards of at most {MAX_WILDCARDS}.",
            remedy="End it with `/**`.",
        )
    pattern = path_matchers.regex(template)
    return {"url_path": {"path": {"safe_regex": {"regex": pattern}}}}
