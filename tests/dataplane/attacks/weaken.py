"""How a plan is weakened: small, named edits of what the compiler made."""

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from watertight.dataplane.resources import EnvoyPlan, Resource, ResourceType

Json = dict[str, Any]
Edit = Callable[[Json], None]
Weaken = Callable[[EnvoyPlan], EnvoyPlan]

PREFIX = "type.googleapis.com/envoy."
ANY = {"any": True}
HTTP_MANAGER = "envoy.filters.network.http_connection_manager"
RBAC = "envoy.filters.http.rbac"


def editing(workload: str, kind: ResourceType, name: str, edit: Edit) -> Weaken:
    """The plan with one resource of one proxy edited in place. The resource must be there."""

    def weaken(plan: EnvoyPlan) -> EnvoyPlan:
        found = False
        resources = []
        for resource in plan.proxies[workload].resources:
            if (resource.type, resource.name) == (kind, name):
                body = copy.deepcopy(dict(resource.body))
                edit(body)
                resources.append(replace(resource, body=body))
                found = True
            else:
                resources.append(resource)
        assert found, f"{workload} has no {kind.name} {name}"
        return _with(plan, workload, resources)

    return weaken


def adding(workload: str, resource: Callable[[EnvoyPlan], Resource]) -> Weaken:
    """The plan with one more resource of one proxy."""

    def weaken(plan: EnvoyPlan) -> EnvoyPlan:
        return _with(plan, workload, [*plan.proxies[workload].resources, resource(plan)])

    return weaken


def together(*weakenings: Weaken) -> Weaken:
    """All of them."""

    def weaken(plan: EnvoyPlan) -> EnvoyPlan:
        for one in weakenings:
            plan = one(plan)
        return plan

    return weaken


def _with(plan: EnvoyPlan, workload: str, resources: list[Resource]) -> EnvoyPlan:
    proxy = replace(plan.proxies[workload], resources=tuple(resources))
    return EnvoyPlan({**plan.proxies, workload: proxy})


def listener(workload: str, name: str, edit: Edit) -> Weaken:
    """An edit of a listener."""
    return editing(workload, ResourceType.LISTENER, name, edit)


def routes(workload: str, name: str, edit: Edit) -> Weaken:
    """An edit of a route configuration."""
    return editing(workload, ResourceType.ROUTE, name, edit)


def cluster(workload: str, name: str, edit: Edit) -> Weaken:
    """An edit of a cluster."""
    return editing(workload, ResourceType.CLUSTER, name, edit)


def tls(workload: str, name: str, edit: Edit) -> Weaken:
    """An edit of the ``DownstreamTlsContext`` of a listener."""

    def dig(body: Json) -> None:
        edit(body["filter_chains"][0]["transport_socket"]["typed_config"])

    return listener(workload, name, dig)


def manager(workload: str, name: str, edit: Edit) -> Weaken:
    """An edit of the HTTP connection manager of a listener."""

    def dig(body: Json) -> None:
        filters = body["filter_chains"][0]["filters"]
        edit(next(f for f in filters if f["name"] == HTTP_MANAGER)["typed_config"])

    return listener(workload, name, dig)


def also_in_the_clear(body: Json) -> None:
    """A second filter chain of a listener, without TLS, for whoever does not speak it."""
    body["listener_filters"] = [
        {
            "name": "envoy.filters.listener.tls_inspector",
            "typed_config": {
                "@type": f"{PREFIX}extensions.filters.listener.tls_inspector.v3.TlsInspector"
            },
        }
    ]
    sealed = body["filter_chains"][0]
    plain = copy.deepcopy(sealed)
    del plain["transport_socket"]
    sealed["filter_chain_match"] = {"transport_protocol": "tls"}
    plain["filter_chain_match"] = {"transport_protocol": "raw_buffer"}
    body["filter_chains"].append(plain)


def policies_of(body: Json) -> Iterator[Json]:
    """Every RBAC policy in a route configuration."""
    for host in body["virtual_hosts"]:
        for holder in (host, *host["routes"]):
            if RBAC in holder.get("typed_per_filter_config", {}):
                yield from rules_of(holder)["policies"].values()


def rules_of(holder: Json) -> Json:
    """The RBAC rules of a virtual host or route."""
    rules: Json = holder["typed_per_filter_config"][RBAC]["rbac"]["rules"]
    return rules


def anything(body: Json) -> None:
    """Route configuration: every policy permits whatever is asked."""
    for policy in policies_of(body):
        policy["permissions"] = [ANY]


def anybody(body: Json) -> None:
    """Route configuration: every policy is for whoever asks."""
    for policy in policies_of(body):
        policy["principals"] = [ANY]


def nothing(body: Json) -> None:
    """Route configuration: no policy permits anything."""
    for policy in policies_of(body):
        policy["permissions"] = [{"not_rule": ANY}]


def old_versions(context: Json) -> None:
    """TLS 1.0 and up, with ciphers that TLS 1.1 has."""
    parameters = context["common_tls_context"]["tls_params"]
    parameters["tls_minimum_protocol_version"] = "TLSv1_0"
    parameters["cipher_suites"] = ["ECDHE-ECDSA-AES128-SHA", "ECDHE-ECDSA-AES128-GCM-SHA256"]
    parameters["ecdh_curves"] = ["X25519", "P-256"]


def validation(edit: Edit) -> Edit:
    """An edit of the static half of the combined validation context."""

    def dig(context: Json) -> None:
        edit(
            context["common_tls_context"]["combined_validation_context"][
                "default_validation_context"
            ]
        )

    return dig
