"""Headers that no caller of ours may write: what proxies obey, and what tells an app who calls.

They are removed at the callee's door, before anything else looks at the request: a thief of an
SVID does not go through the caller's own proxy.
"""

import re
from collections.abc import Iterable

from watertight.dataplane.compile.blocks import Json, extension, typed

MUTATIONS = "envoy.filters.http.header_mutation"
PEER_HEADER = "x-forwarded-client-cert"
SUBJECT_HEADER = "x-watertight-subject"
"""The verified ``sub`` of the token that the gateway saw."""
CLIENT_HEADER = "x-watertight-client"
"""Its ``client_id`` (RFC 9068), or its ``azp`` (OpenID Connect Core section 2)."""
CODING_HEADER = "x-watertight-coding"
"""A copy of ``transfer-encoding``, which Envoy takes away before it chooses a route."""
FRAMING_HEADER = "x-watertight-framing"
UNSEEN_HEADER = "x-watertight-unseen"
"""By which a callee's proxy says that the app has not seen a request (:mod:`.retries`)."""

OVERRIDES = (
    *("x-http-method", "x-http-method-override", "x-method-override"),
    *("x-http-path-override", "x-middleware-subrequest", "x-original-uri", "x-original-url"),
    *("x-override-url", "x-rewrite-url", "x-script-name"),
)
"""Headers by which frameworks let a request become another one than was judged here; by
``x-middleware-subrequest`` one that its own middleware does not judge (CVE-2025-29927)."""

FORWARDING = (
    *("akamai-client-ip", "appengine-user-ip", "cf-connecting-ip", "cf-connecting-ipv6"),
    *("cf-pseudo-ipv4", "client-ip", "cloudfront-viewer-address", "cluster-client-ip"),
    *("do-connecting-ip", "fastly-client-ip", "fastly-ssl", "fastly-temp-xff", "fly-client-ip"),
    *("fly-forwarded-port", "fly-forwarded-proto", "fly-forwarded-ssl", "forwarded"),
    *("forwarded-for", "forwarded-host", "forwarded-proto", "front-end-https", "incap-client-ip"),
    *("iv-remote-address", "l5d-remote-ip", "proxy", "proxy-client-ip", "real-ip", "remote-addr"),
    *("true-client-ip", "x-azure-clientip", "x-azure-socketip", "x-cdn-src-ip", "x-client-ip"),
    *("x-cluster-client-ip", "x-custom-ip-authorization", "x-forwarded", "x-host"),
    *("x-ms-forwarded-client-ip", "x-nf-client-connection-ip", "x-original-for"),
    *("x-original-forwarded-for", "x-original-host", "x-original-proto", "x-originating-ip"),
    *("x-proxyuser-ip", "x-real-client-ip", "x-real-ip", "x-remote-addr", "x-remote-ip"),
    *("x-scheme", "x-sucuri-clientip", "x-true-client-ip", "x-url-scheme"),
    *("x-vercel-forwarded-for", "x-vercel-proxied-for"),
)
"""By which proxies say where a request comes from, beside all that begin with ``x-forwarded-``;
``proxy`` becomes ``HTTP_PROXY`` in CGI (CVE-2016-5385)."""

CERTIFICATES = (
    *("client-cert", "client-cert-chain", "l5d-client-id", "x-arr-clientcert", "x-client-cert"),
    *("x-client-dn", "x-client-verify", "x-ssl-cert", "x-ssl-issuer"),
)
"""By which proxies say which certificate a client has shown (RFC 9440, and older ones), beside some
of :data:`PROXIES`."""

USERS = (
    *("auth-cn", "auth-groups", "auth-mail", "auth-user", "authenticated-user", "authuser"),
    *("cas-user", "cf-access-authenticated-user-email", "cf-access-jwt-assertion"),
    *("ct-remote-user", "eppn", "iv-creds", "iv-groups", "iv-user", "iv-user-l"),
    *("kubeflow-groups", "kubeflow-userid", "proxy-remote-user", "remote-email", "remote-group"),
    *("remote-groups", "remote-name", "remote-role", "remote-roles", "remote-user"),
    *("rstudio-connect-credentials", "shiny-server-credentials", "sm-universalid", "sso-user"),
    *("teleport-jwt-assertion", "x-amzn-lambda-context", "x-amzn-request-context"),
    *("x-anonymous-consumer", "x-auth-audience", "x-auth-email", "x-auth-group", "x-auth-groups"),
    *("x-auth-name", "x-auth-roles", "x-auth-subject", "x-auth-user", "x-auth-user-id"),
    *("x-auth-userid", "x-auth-username", "x-cas-user", "x-goog-iap-jwt-assertion"),
    *("x-identity-status", "x-jwt-assertion", "x-jwt-payload", "x-ms-client-principal"),
    *("x-proxy-groups", "x-proxy-roles", "x-proxy-user", "x-remote-email", "x-remote-group"),
    *("x-remote-groups", "x-remote-name", "x-remote-role", "x-remote-roles", "x-remote-uid"),
    *("x-remote-user", "x-rh-identity", "x-sso-user", "x-token-subject", "x-userinfo"),
    "x-vercel-oidc-token",
)
SERVED_USERS = (
    *("dapr-caller-", "impersonate-", "mellon-", "oam-", "oidc-", "osso-", "sf-context-", "shib-"),
    *("sm-user", "tailscale-", "x-agw-", "x-amzn-ava-", "x-amzn-lattice-", "x-amzn-mtls-"),
    *("x-amzn-oidc-", "x-apigateway-", "x-appengine-", "x-auth-couchdb-", "x-auth-request-"),
    *("x-authenticated-", "x-authentik-", "x-consumer-", "x-credential-", "x-endpoint-api-"),
    *("x-goog-authenticated-", "x-jwt-claim-", "x-knox-actor-", "x-ms-client-principal-"),
    *("x-ms-token-", "x-pomerium-", "x-proxy-ext-", "x-remote-extra-", "x-remote-user-"),
    *("x-replit-user-", "x-sandstorm-", "x-tailscale-", "x-teleport-", "x-token-user-"),
    *("x-vouch-", "x-webauth-", "ynh-user"),
)
"""By which proxies, gateways and meshes that know users (or programs) say who asks, and how such
names begin. Nobody outside may; a service that does so for another one may. Names that apps use for
what their own clients say (``x-user-id``, ``x-email``, ``x-api-key``) are not among them."""

PROXIES = (
    *("$ws", "cf-client-cert-", "ms-aspnetcore-", "ssl-client-", "wl-proxy-", "x-client-cert-"),
    *("x-envoy-", "x-forwarded-", "x-ssl-client-", "x-tls-client-", "x-watertight-"),
)
"""Beginnings of the names of headers that one proxy writes and another one obeys, or an app: those
of application servers (WebSphere, ASP.NET Core, WebLogic) and of certificates, too."""

FRAMING = ("content-length", "transfer-encoding")
"""By which a request's end is found. As they are, Envoy has judged them; ``content_length`` is
another header to it, and to programs that fold names the same one."""

NEVER_TRAILERS = (
    "authorization",
    "connection",
    "content-length",
    "cookie",
    "host",
    "te",
    "transfer-encoding",
    *CERTIFICATES,
    *FORWARDING,
    *OVERRIDES,
    *USERS,
)
"""What must not come after the body, since some servers take trailers for headers (RFC 9110
section 6.5.1): framing, routing, who asks."""


def early(mutations: Iterable[Json]) -> Json:
    """A mutation of a request's headers before routing, and before any filter."""
    return extension(
        "envoy.http.early_header_mutation.header_mutation",
        "extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation",
        mutations=list(mutations),
    )


def removals(names: Iterable[str] = (), beginnings: Iterable[str] = ()) -> list[Json]:
    """Mutations that remove headers by name, and by how their names begin.

    A ``_``, a ``.`` or another mark in a name is a ``-`` to programs that make a variable of it
    (RFC 3875 section 4.1.18): ``x_watertight_subject`` and ``x-watertight.subject`` are ours, too.
    """
    return _removed([*map(_spelt, names), *(f"{_spelt(start)}.*" for start in beginnings)])


def look_alikes(names: Iterable[str]) -> list[Json]:
    """Mutations that remove what could be read as one of ``names``, which stay.

    A name has one ``-``.
    """
    return _removed(name.replace("-", "[^a-z0-9-]") for name in names)


def _removed(expressions: Iterable[str]) -> list[Json]:
    known = "|".join(expressions)
    return [{"remove_on_match": {"key_matcher": {"safe_regex": {"regex": known}}}}]


def _spelt(name: str) -> str:
    """A regular expression for a name, whatever stands between its words."""
    return "[^a-z0-9]".join(map(re.escape, name.split("-")))


def copy_coding() -> Json:
    """A mutation that keeps ``transfer-encoding`` for the routes (see :data:`CODING_HEADER`)."""
    return {
        "append": {
            "header": {"key": CODING_HEADER, "value": "%REQ(TRANSFER-ENCODING)%"},
            "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
        }
    }


def copy_framing() -> Json:
    """A mutation that keeps the version and ``transfer-encoding`` together for the routes."""
    return {
        "append": {
            "header": {"key": FRAMING_HEADER, "value": "%PROTOCOL% %REQ(TRANSFER-ENCODING)%"},
            "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
        }
    }


def mutation_filter() -> Json:
    """A filter that takes out of a request's trailers what they must not say, and of its headers
    what would make another request of one that was judged (:func:`without_overrides`)."""
    return extension(
        MUTATIONS,
        "extensions.filters.http.header_mutation.v3.HeaderMutation",
        mutations={
            "request_trailers_mutations": removals(NEVER_TRAILERS, (*PROXIES, *SERVED_USERS))
        },
    )


def without_overrides() -> Json:
    """``typed_per_filter_config`` where requests are judged: none becomes another one."""
    return {
        MUTATIONS: typed(
            "extensions.filters.http.header_mutation.v3.HeaderMutationPerRoute",
            mutations={"request_mutations": removals(OVERRIDES)},
        )
    }


HIDDEN_BODY = f"""
function envoy_on_request(handle)
  local headers = handle:headers()
  if headers:get("content-length") or headers:get("{CODING_HEADER}") or headers:get("upgrade") then
    return
  end
  if handle:body() then
    handle:respond({{[":status"] = "400"}}, "")
  end
end
"""


def hidden_body_filter() -> Json:
    """A filter that refuses a body of which the routes know nothing.

    A caller can take its length away: of what ``Connection`` names Envoy's codec leaves nothing
    (RFC 9110 section 7.6.1), ``content-length`` included, and no other filter sees that there is a
    body. Without one ``body()`` answers at once.
    """
    return extension(
        "watertight.hidden_body",
        "extensions.filters.http.lua.v3.Lua",
        default_source_code={"inline_string": HIDDEN_BODY},
    )


def overwrite(name: str, value: str) -> Json:
    """One of a route's ``request_headers_to_add``."""
    return {
        "header": {"key": name, "value": value},
        "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
    }
