"""The weakenings themselves: each takes one thing away that the compiler put there."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.dataplane.attacks import weaken
from tests.dataplane.attacks.weaken import (
    PREFIX,
    Json,
    Weaken,
    listener,
    routes,
    rules_of,
    tls,
    together,
    validation,
)
from watertight.dataplane.resources import EnvoyPlan, Resource, ResourceType
from watertight.model.addresses import loopback_addresses
from watertight.model.system import System

DOOR = ("orders", "in|storefront")
HTTPS = ("gateway", "https")


@dataclass(frozen=True)
class Live:
    """What a sabotage may need of the running mesh."""

    system: System
    roots_pem: str
    foreign_pem: str
    """The certificate of the prober's unknown authority."""
    lenient_port: int
    """Of a server that answers 200, twice, to whatever bytes it is sent."""


# --- the doors' TLS ---------------------------------------------------------------------------


def no_certificate_needed(context: Json) -> None:
    """Names go too: while any is asked for, Envoy asks for a certificate all the same."""
    context["require_client_certificate"] = False
    no_names(context)


def nobody_asked(context: Json) -> None:
    context["require_client_certificate"] = False
    del context["common_tls_context"]["combined_validation_context"]


def another_name(context: Json) -> None:
    """Who is expected is somebody else."""
    validation(
        lambda body: body["match_typed_subject_alt_names"][0].update(
            matcher={"exact": "spiffe://shop.internal/nobody"}
        )
    )(context)


def sessions_resumed(context: Json) -> None:
    context["disable_stateless_session_resumption"] = False
    context["disable_stateful_session_resumption"] = False


def no_names(context: Json) -> None:
    validation(lambda body: body.update(match_typed_subject_alt_names=[]))(context)


def untrusted_taken(context: Json) -> None:
    validation(lambda body: body.update(trust_chain_verification="ACCEPT_UNTRUSTED"))(context)


def expired_taken(context: Json) -> None:
    validation(lambda body: body.update(allow_expired_certificate=True))(context)


def foreign_trusted(live: Live) -> Weaken:
    """A list of roots that the foreign authority is on, too."""

    def edit(context: Json) -> None:
        common = context["common_tls_context"]
        combined = common.pop("combined_validation_context")
        common["validation_context"] = {
            **combined["default_validation_context"],
            "trusted_ca": {"inline_string": live.roots_pem + live.foreign_pem},
        }

    return tls(*DOOR, edit)


def usage_ignored(context: Json) -> None:
    """Envoy's SPIFFE validator instead of its default one: it looks at no key usage."""
    combined = context["common_tls_context"]["combined_validation_context"]
    combined["validation_context_sds_secret_config"]["name"] = "ALL"


def never_shown_out(body: Json) -> None:
    body["filter_chains"][0]["transport_socket_connect_timeout"] = "60s"
    body["listener_filters_timeout"] = "60s"


# --- grants -----------------------------------------------------------------------------------


def read_as_written(body: Json) -> None:
    body["normalize_path"] = False
    body["merge_slashes"] = False
    body["path_with_escaped_slashes_action"] = "KEEP_UNCHANGED"


def by_prefix(body: Json) -> None:
    """A grant as a prefix of the path, as a careless author writes it."""
    for policy in weaken.policies_of(body):
        for permission in policy["permissions"]:
            if "and_rules" not in permission:
                continue
            method, path = permission["and_rules"]["rules"]
            if "safe_regex" in path["url_path"]["path"]:
                prefix = {"url_path": {"path": {"prefix": "/orders/"}}}
                permission["and_rules"]["rules"] = [method, prefix]


def targets_obeyed(body: Json) -> None:
    """The door's manager lets CONNECT through, and nobody waits for the end of its body …"""
    body["upgrade_configs"].append({"upgrade_type": "CONNECT"})
    without_hidden_body(body)


def without_hidden_body(body: Json) -> None:
    """The door's manager does not look for bodies of which its routes know nothing."""
    kept = [f for f in body["http_filters"] if f["name"] != "watertight.hidden_body"]
    assert len(kept) == len(body["http_filters"]) - 1
    body["http_filters"] = kept


def connections_named_on(body: Json) -> None:
    """The routes of upgrades leave ``Connection`` as it is."""
    for route in body["virtual_hosts"][0]["routes"]:
        if added := route.get("request_headers_to_add"):
            kept = [a for a in added if a["header"] != {"key": "connection", "value": "Upgrade"}]
            route["request_headers_to_add"] = kept


def targets_reached(body: Json) -> None:
    """… and its routes lead it to the app, whatever target it names."""
    connect = {"upgrade_type": "CONNECT", "connect_config": {}}
    body["virtual_hosts"][0]["routes"].insert(
        0,
        {
            "match": {"connect_matcher": {}},
            "route": {"cluster": "app", "upgrade_configs": [connect]},
            "typed_per_filter_config": {
                weaken.RBAC: {
                    "@type": f"{PREFIX}extensions.filters.http.rbac.v3.RBACPerRoute",
                    "rbac": {
                        "rules": {
                            "action": "ALLOW",
                            "policies": {
                                "any": {"permissions": [weaken.ANY], "principals": [weaken.ANY]}
                            },
                        }
                    },
                }
            },
        },
    )


def past_the_judge(live: Live) -> Weaken:
    """No HTTP is parsed on the way, and the app believes anything."""

    def passed(cluster: str) -> Callable[[Json], None]:
        def edit(body: Json) -> None:
            kind = f"{PREFIX}extensions.filters.network.tcp_proxy.v3.TcpProxy"
            proxy = {"@type": kind, "stat_prefix": "past", "cluster": cluster}
            body["filter_chains"][0]["filters"] = [
                {"name": "envoy.filters.network.tcp_proxy", "typed_config": proxy}
            ]

        return edit

    def believer(body: Json) -> None:
        endpoint = body["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]
        endpoint["address"]["socket_address"]["port_value"] = live.lenient_port

    return together(
        listener("storefront", "out|orders", passed("out|orders")),
        listener(*DOOR, passed("app")),
        weaken.editing("orders", ResourceType.CLUSTER, "app", believer),
    )


# --- reach and ports --------------------------------------------------------------------------


def undeclared_listener(live: Live) -> Weaken:
    """storefront's proxy listens for mailer, to which storefront has no channel."""
    pairs = {f"{c.source}>{c.target}" for c in live.system.channels} | {"storefront>mailer"}
    address = loopback_addresses(pairs)["storefront>mailer"]
    listens = live.system.services["mailer"].listens
    assert listens is not None
    port = listens.port

    def stray(plan: EnvoyPlan) -> Resource:
        found = next(
            r
            for r in plan.proxies["storefront"].resources
            if r.type is ResourceType.LISTENER and r.name == "out|orders"
        )
        socket = {"socket_address": {"address": address, "port_value": port}}
        body = {**found.body, "name": "out|mailer", "address": socket}
        return Resource(ResourceType.LISTENER, "out|mailer", body)

    return weaken.adding("storefront", stray)


def stranger_s_door(live: Live) -> Weaken:
    """orders' proxy awaits catalogue, which has no channel to it, at a door of its own."""

    def stray(plan: EnvoyPlan) -> Resource:
        found = next(
            r
            for r in plan.proxies["orders"].resources
            if r.type is ResourceType.LISTENER and r.name == "in|storefront"
        )
        path = found.body["address"]["pipe"]["path"].replace("storefront.sock", "catalogue.sock")
        body = {**found.body, "name": "in|catalogue", "address": {"pipe": {"path": path}}}
        return Resource(ResourceType.LISTENER, "in|catalogue", body)

    return weaken.adding("orders", stray)


# --- the gateway ------------------------------------------------------------------------------


def old_https(context: Json) -> None:
    weaken.old_versions(context)
    context["common_tls_context"]["tls_params"]["tls_maximum_protocol_version"] = "TLSv1_3"


def any_host(body: Json) -> None:
    declared, *_rest = body["virtual_hosts"]
    declared["domains"] = ["*"]
    body["virtual_hosts"] = [declared]


def a_route_is_missing(body: Json) -> None:
    host = body["virtual_hosts"][0]
    files = next(route for route in host["routes"] if route.get("name") == "route 3")
    host["routes"].remove(files)


def open_fallback(body: Json) -> None:
    """What no route names goes to the storefront, for anyone."""
    host = body["virtual_hosts"][0]
    (open_route,) = [r for r in host["routes"] if r.get("name") == "route 2"]
    fallback = {
        **open_route,
        "name": "fallback",
        "match": {"prefix": "/"},
        "typed_per_filter_config": host["routes"][-1]["typed_per_filter_config"],
    }
    host["routes"] = [r for r in host["routes"] if "direct_response" not in r] + [fallback]


def careless(body: Json) -> None:
    """A route configuration as it was: Envoy merges slashes, and that is all."""
    for host in body["virtual_hosts"]:
        host["routes"] = [
            route
            for route in host["routes"]
            if "safe_regex" not in route["match"] or "direct_response" not in route
        ]
    weaken.anything(body)


def none_is_ambiguous(body: Json) -> None:
    """Dot segments with parameters are judged like any other path."""
    host = body["virtual_hosts"][0]
    host["routes"] = [r for r in host["routes"] if "direct_response" not in r or _judges_host(r)]


def hyphens_only(body: Json) -> None:
    """What a program may read as one of ours, but is written otherwise, passes."""
    (extension,) = body["early_header_mutation_extensions"]
    for mutation in extension["typed_config"]["mutations"]:
        if matcher := mutation.get("remove_on_match"):
            known = matcher["key_matcher"]["safe_regex"]
            known["regex"] = known["regex"].replace("[^a-z0-9]", "-")


def request_ids_believed(body: Json) -> None:
    """An id of the client's own stays, since it comes from a private address."""
    (extension,) = body["early_header_mutation_extensions"]
    for mutation in extension["typed_config"]["mutations"]:
        if matcher := mutation.get("remove_on_match"):
            known = matcher["key_matcher"]["safe_regex"]
            names = known["regex"].split("|")
            names.remove("x[^a-z0-9]request[^a-z0-9]id")
            known["regex"] = "|".join(names)


def overrides_pass(body: Json) -> None:
    """A request that was judged may become another one."""
    del body["virtual_hosts"][0]["typed_per_filter_config"]


def hosts_believed(body: Json) -> None:
    """What is sent to two hosts is sent on."""
    host = body["virtual_hosts"][0]
    host["routes"] = [r for r in host["routes"] if not _judges_host(r)]


def _judges_host(route: Json) -> bool:
    return any(match["name"] == ":authority" for match in route["match"].get("headers", ()))


TOKENS_OFF: dict[str, Any] = {
    "envoy.filters.http.jwt_authn": {
        "@type": f"{PREFIX}extensions.filters.http.jwt_authn.v3.PerRouteConfig",
        "disabled": True,
    },
    "watertight.token_form": {"@type": f"{PREFIX}extensions.filters.http.rbac.v3.RBACPerRoute"},
    "watertight.token_claims": {
        "@type": f"{PREFIX}extensions.filters.http.lua.v3.LuaPerRoute",
        "disabled": True,
    },
}


def tokens_ignored(body: Json) -> None:
    for route in body["virtual_hosts"][0]["routes"]:
        if "direct_response" not in route:
            route["typed_per_filter_config"].update(TOKENS_OFF)
            for policy in rules_of(route)["policies"].values():
                policy["principals"] = [weaken.ANY]


def filters_off(*names: str) -> Weaken:
    def edit(body: Json) -> None:
        for route in body["virtual_hosts"][0]["routes"]:
            if "direct_response" not in route:
                route["typed_per_filter_config"].update({n: TOKENS_OFF[n] for n in names})

    return routes(*HTTPS, edit)


def any_bearer(body: Json) -> None:
    for route in body["virtual_hosts"][0]["routes"]:
        if "direct_response" not in route:
            for policy in rules_of(route)["policies"].values():
                policy["principals"] = [weaken.ANY]


def provider(edit: Callable[[Json], None]) -> Weaken:
    """An edit of the issuer's JWT provider."""

    def dig(body: Json) -> None:
        edit(body["typed_config"]["providers"]["main"])

    return weaken.editing("gateway", ResourceType.EXTENSION, "envoy.filters.http.jwt_authn", dig)


def lax(body: Json) -> None:
    body["require_expiration"] = False
    del body["max_lifetime"]
    body["audiences"] = []
    body["clock_skew_seconds"] = 100_000
    del body["issuer"]


def claims_unread(body: Json) -> None:
    """Every verified token is good, whatever kind it is of and whenever it was issued."""
    (judge,) = [f for f in body["http_filters"] if f["name"] == "watertight.token_claims"]
    source = judge["typed_config"]["default_source_code"]
    read, unread = "if why ~= nil then", "if false then"
    assert read in source["inline_string"]
    source["inline_string"] = source["inline_string"].replace(read, unread)


def blanks_taken(body: Json) -> None:
    """A name is what the header says of it, without the blanks behind it."""
    (judge,) = [f for f in body["http_filters"] if f["name"] == "watertight.token_claims"]
    source = judge["typed_config"]["default_source_code"]
    read = 'and not text:match(" $")'
    assert read in source["inline_string"]
    source["inline_string"] = source["inline_string"].replace(read, "")


def scheme_as_written(body: Json) -> None:
    body["from_headers"] = [{"name": "Authorization", "value_prefix": "Bearer "}]


def no_challenge(body: Json) -> None:
    del body["local_reply_config"]


def any_page(body: Json) -> None:
    """Whoever asks is allowed, as by a gateway that writes back the Origin."""
    for route in body["virtual_hosts"][0]["routes"]:
        if policy := route.get("typed_per_filter_config", {}).get("envoy.filters.http.cors"):
            policy["allow_origin_string_match"] = [{"safe_regex": {"regex": ".*"}}]


def no_page(body: Json) -> None:
    body["http_filters"] = [
        f for f in body["http_filters"] if f["name"] != "envoy.filters.http.cors"
    ]


def odd_hosts_taken(body: Json) -> None:
    """Without the route that refuses what is no host."""
    for host in body["virtual_hosts"]:
        host["routes"] = [
            route
            for route in host["routes"]
            if "direct_response" not in route
            or all(h["name"] != ":authority" for h in route["match"].get("headers", []))
        ]


def old_codings_taken(body: Json) -> None:
    """Without the route that refuses HTTP/1.0 with a transfer coding."""
    host = body["virtual_hosts"][0]
    before = len(host["routes"])
    host["routes"] = [
        route
        for route in host["routes"]
        if all(h["name"] != "x-watertight-framing" for h in route["match"].get("headers", []))
    ]
    assert len(host["routes"]) == before - 1


def steps_up_taken(body: Json) -> None:
    """Whatever route takes ``%2F`` takes ``..%2F`` and ``%5C`` too."""
    host = body["virtual_hosts"][0]
    host["routes"] = [
        route
        for route in host["routes"]
        if "direct_response" not in route
        or all(header["name"] != ":path" for header in route["match"].get("headers", []))
    ]


def slashes_taken_by_all(body: Json) -> None:
    """An opt-out of one route is one of all."""
    for route in body["virtual_hosts"][0]["routes"]:
        if "direct_response" in route:
            continue
        headers = route["match"]["headers"]
        route["match"]["headers"] = [h for h in headers if h["name"] != ":path"]


def from_query(body: Json) -> None:
    body["from_params"] = ["access_token"]


def no_limits(body: Json) -> None:
    for route in body["virtual_hosts"][0]["routes"]:
        for name in [n for n in route["typed_per_filter_config"] if "limit_by" in n]:
            del route["typed_per_filter_config"][name]


def whole_paths_logged(body: Json) -> None:
    line = body["access_log"][0]["typed_config"]["log_format"]["json_format"]
    line["path"] = "%PATH(NQ:ORIG_OR_PATH)%"


def any_size(body: Json) -> None:
    body["max_request_headers_kb"] = 96
    body["common_http_protocol_options"]["max_headers_count"] = 1000
    for item in body["http_filters"]:
        if item["name"] == "envoy.filters.http.body_size_limit":
            item["typed_config"]["value"]["max_request_bytes"] = 10_000_000


def any_method(body: Json) -> None:
    """The gateway's own routes take any method, for anyone; the 405s go."""
    host = body["virtual_hosts"][0]
    host["routes"] = [r for r in host["routes"] if r.get("direct_response") != {"status": 405}]
    for route in host["routes"]:
        if "direct_response" in route:
            continue
        headers = route["match"]["headers"]
        route["match"]["headers"] = [h for h in headers if h["name"] != ":method"]
        for policy in rules_of(route)["policies"].values():
            policy["permissions"] = [weaken.ANY]


def past_the_gateway(live: Live) -> Weaken:
    """The gateway passes bytes to an app that believes anything."""

    def believer(_plan: EnvoyPlan) -> Resource:
        address = {"socket_address": {"address": "127.0.0.1", "port_value": live.lenient_port}}
        body = {
            "name": "believer",
            "type": "STATIC",
            "load_assignment": {
                "cluster_name": "believer",
                "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
            },
        }
        return Resource(ResourceType.CLUSTER, "believer", body)

    def pass_on(body: Json) -> None:
        body["filter_chains"][0]["filters"] = [
            {
                "name": "envoy.filters.network.tcp_proxy",
                "typed_config": {
                    "@type": f"{PREFIX}extensions.filters.network.tcp_proxy.v3.TcpProxy",
                    "stat_prefix": "believer",
                    "cluster": "believer",
                },
            }
        ]

    return together(weaken.adding("gateway", believer), listener(*HTTPS, pass_on))


def few_connections(body: Json) -> None:
    """Cluster: fewer connections to the app than one caller may want, for all of them together."""
    body["circuit_breakers"]["thresholds"][0]["max_connections"] = 100
