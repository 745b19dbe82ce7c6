"""What holds for the plan of every system, whatever it declares."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.dataplane.compile.systems import KEYS, PLACEMENT, SHOP
from watertight.dataplane.compile import compile_envoy
from watertight.dataplane.resources import ProxyPlan, Resource, ResourceType
from watertight.model.system import (
    GATEWAY,
    Channel,
    Gateway,
    Grant,
    HTTPGrant,
    Issuer,
    Listen,
    Protocol,
    Requirement,
    Route,
    RPCGrant,
    Service,
    System,
)

HANDSHAKE = "ON_DOWNSTREAM_TLS_HANDSHAKE"
NAMES = ("alpha", "bravo", "charlie", "delta", "echo")
"""None is part of another, or of anything else in a plan."""

paths = (
    st.lists(st.sampled_from(["x", "y-1", "*", "{id}"]), min_size=1, max_size=4)
    .filter(lambda segments: segments.count("{id}") < 2)
    .map(lambda segments: "/" + "/".join(segments))
)
methods = st.sampled_from(["GET", "POST", "DELETE"])
http_grants: st.SearchStrategy[Grant] = st.builds(HTTPGrant, methods, paths)
rpc_grants: st.SearchStrategy[Grant] = st.builds(
    RPCGrant, st.just("a.B"), st.sampled_from(["Get", "*"])
)


@st.composite
def channels(draw: st.DrawFn, source: str, target: Service) -> Channel:
    """A channel that asks for no more than its target can do."""
    assert target.listens is not None
    if target.listens.protocol is Protocol.TCP:
        return Channel(source, target.name)
    kind = rpc_grants if target.listens.protocol is Protocol.GRPC else http_grants
    return Channel(
        source,
        target.name,
        tuple(draw(st.lists(kind, max_size=3, unique=True))),
        timeout_seconds=draw(st.none() | st.floats(0.1, 60)),
        retries=draw(st.integers(0, 3)),
    )


@st.composite
def systems(draw: st.DrawFn) -> System:
    """Any system of up to five services, with or without a gateway."""
    services = {
        name: Service(name, listens=Listen(draw(st.sampled_from(Protocol)), 8000 + number))
        for number, name in enumerate(NAMES[: draw(st.integers(1, 5))])
    }
    pairs = [(a, b) for a in services for b in services if a != b]
    chosen = draw(st.lists(st.sampled_from(pairs), unique=True, max_size=8)) if pairs else []
    made = tuple(draw(channels(a, services[b])) for a, b in chosen)
    web = [s.name for s in services.values() if s.listens and s.listens.protocol != Protocol.TCP]
    gateway = draw(st.none() | gateways(web)) if web else None
    return System("any.internal", services, channels=made, gateway=gateway)


def gateways(targets: list[str]) -> st.SearchStrategy[Gateway]:
    """Any gateway to these services."""
    require = st.none() | st.just(Requirement("main", ("read",)))
    routes = st.builds(
        Route,
        path=paths,
        target=st.sampled_from(targets),
        methods=st.lists(methods, min_size=1, unique=True).map(tuple),
        require=require,
    )
    issuers = {"main": Issuer("main", "https://issuer", ("any",), "jwks.json")}
    return st.lists(routes, max_size=4).map(
        lambda made: Gateway("any.example", tuple(made), issuers=issuers)
    )


def mappings(node: Any) -> Iterator[dict[str, Any]]:
    """Every JSON object within ``node``."""
    if isinstance(node, dict):
        yield node
        for value in node.values():
            yield from mappings(value)
    elif isinstance(node, list | tuple):
        for value in node:
            yield from mappings(value)


def of(proxy: ProxyPlan, kind: ResourceType) -> list[Resource]:
    """The resources of one type."""
    return [resource for resource in proxy.resources if resource.type is kind]


def tls_contexts(proxy: ProxyPlan, side: str) -> Iterator[dict[str, Any]]:
    """The TLS contexts of all listeners (``Downstream``) or clusters (``Upstream``)."""
    for resource in proxy.resources:
        for body in mappings(resource.body):
            if str(body.get("@type", "")).endswith(f".{side}TlsContext"):
                yield body


def neighbours(system: System, workload: str) -> set[str]:
    """Those that a proxy has to know of."""
    out = {c.target for c in system.outgoing(workload)}
    into = {c.source for c in system.incoming(workload)}
    routes = system.gateway.routes if system.gateway else ()
    if workload == GATEWAY:
        out |= {route.target for route in routes}
    return out | into | {workload}


@settings(max_examples=60, deadline=None)
@given(systems())
def test_a_proxy_is_told_of_its_own_neighbours_only(system: System) -> None:
    for workload, proxy in compile_envoy(system, PLACEMENT, KEYS).proxies.items():
        told = json.dumps([resource.body for resource in proxy.resources])
        strangers = set(NAMES) - neighbours(system, workload)
        assert not {name for name in strangers if name in told}


@settings(max_examples=60, deadline=None)
@given(systems())
def test_every_mesh_end_demands_one_exact_peer(system: System) -> None:
    for workload, proxy in compile_envoy(system, PLACEMENT, KEYS).proxies.items():
        downstream = [] if workload == GATEWAY else list(tls_contexts(proxy, "Downstream"))
        for context in downstream:
            assert context["require_client_certificate"] is True
            assert context["disable_stateless_session_resumption"] is True
            assert context["disable_stateful_session_resumption"] is True
        for context in [*downstream, *tls_contexts(proxy, "Upstream")]:
            common = context["common_tls_context"]
            validation = common["combined_validation_context"]["default_validation_context"]
            (san,) = validation["match_typed_subject_alt_names"]
            assert san["san_type"] == "URI"
            assert san["matcher"]["exact"].startswith("spiffe://any.internal/")
            parameters = common["tls_params"]
            assert parameters["tls_minimum_protocol_version"] == "TLSv1_3"
            assert parameters["tls_maximum_protocol_version"] == "TLSv1_3"


@settings(max_examples=60, deadline=None)
@given(systems())
def test_every_way_in_is_closed_until_a_policy_opens_it(system: System) -> None:
    for proxy in compile_envoy(system, PLACEMENT, KEYS).proxies.values():
        for resource in of(proxy, ResourceType.LISTENER):
            if resource.name.startswith("out|"):
                continue
            filters = [body for body in mappings(resource.body) if "http_filters" in body]
            if not filters:
                _limit, _first, second, last = resource.body["filter_chains"][0]["filters"]
                assert second["name"] == "envoy.filters.network.rbac"
                (policy,) = second["typed_config"]["rules"]["policies"].values()
                (principal,) = policy["principals"]
                assert "and_ids" in principal
                # The app is not connected to before the handshake.
                assert last["typed_config"]["upstream_connect_mode"] == HANDSHAKE
                continue
            for parsed in filters:
                by_name = {f["name"]: f for f in parsed["http_filters"]}
                rules = by_name["envoy.filters.http.rbac"]["typed_config"]["rules"]
                assert rules == {"action": "ALLOW", "policies": {}}
        for resource in of(proxy, ResourceType.ROUTE):
            if resource.name.startswith("out|"):
                continue
            for host in resource.body["virtual_hosts"]:
                assert host["routes"]
                for route in host["routes"]:
                    rules = route["typed_per_filter_config"]["envoy.filters.http.rbac"]["rbac"]
                    assert rules["rules"]["action"] == "ALLOW"
                    assert all(p["principals"] for p in rules["rules"]["policies"].values())


@settings(max_examples=60, deadline=None)
@given(systems())
def test_no_name_occurs_twice_and_every_reference_is_met(system: System) -> None:
    for proxy in compile_envoy(system, PLACEMENT, KEYS).proxies.values():
        counts = Counter((resource.type, resource.name) for resource in proxy.resources)
        assert set(counts.values()) <= {1}
        assert all(r.body["name"] == r.name for r in proxy.resources)
        clusters = {r.name for r in of(proxy, ResourceType.CLUSTER)}
        routes = {r.name for r in of(proxy, ResourceType.ROUTE)}
        for resource in proxy.resources:
            for body in mappings(resource.body):
                assert body.get("cluster") in {None, *clusters}
                assert body.get("route_config_name") in {None, *routes}


@settings(max_examples=40, deadline=None)
@given(systems())
def test_listeners_are_the_same_whatever_a_channel_allows(system: System) -> None:
    """Frozen: taking all grants, timeouts and retries away changes no listener at either end."""
    plain = System(
        system.trust_domain,
        system.services,
        channels=tuple(Channel(c.source, c.target) for c in system.channels),
        gateway=system.gateway,
    )
    before = compile_envoy(system, PLACEMENT, KEYS)
    after = compile_envoy(plain, PLACEMENT, KEYS)
    for workload, proxy in before.proxies.items():
        kept = {r.name: r.body for r in of(after.proxies[workload], ResourceType.LISTENER)}
        for resource in of(proxy, ResourceType.LISTENER):
            assert resource.body == kept[resource.name]


@settings(max_examples=20, deadline=None)
@given(systems())
def test_the_same_system_gives_the_same_plan(system: System) -> None:
    first, second = (compile_envoy(system, PLACEMENT, KEYS) for _ in range(2))
    assert first == second


@settings(max_examples=30, deadline=None)
@given(systems(), systems(), st.booleans())
def test_compiling_again_gives_what_compiling_anew_does(
    first: System, second: System, shared_network: bool
) -> None:
    """Also where half of it stays: what is taken over from an earlier plan is what it would be."""
    placement = replace(PLACEMENT, shared_network=shared_network)
    before = compile_envoy(first, placement, KEYS)
    fewer = replace(first, channels=first.channels[1:])
    closed = replace(first, gateway=None)
    name, service = next(iter(first.services.items()))
    assert service.listens is not None
    moved = replace(service, listens=replace(service.listens, port=9_999))
    elsewhere = replace(first, services={**first.services, name: moved})
    for system in (second, fewer, closed, elsewhere):
        again = compile_envoy(system, placement, KEYS, before=before)
        assert again == compile_envoy(system, placement, KEYS)


def test_one_changed_channel_compiles_its_two_ends_and_nothing_else() -> None:
    before = compile_envoy(SHOP, PLACEMENT, KEYS)
    fewer = replace(SHOP, channels=SHOP.channels[1:])
    after = compile_envoy(fewer, PLACEMENT, KEYS, before=before)
    made = {name for name, proxy in after.proxies.items() if proxy is not before.proxies[name]}
    assert made == {SHOP.channels[0].source, SHOP.channels[0].target}


@settings(max_examples=20, deadline=None)
@given(systems())
def test_plans_share_nothing_that_a_parser_may_change(system: System) -> None:
    """Protobuf's JSON parser changes each ``Any`` while it reads it."""
    made = [compile_envoy(system, PLACEMENT, KEYS) for _ in range(2)]
    first, second = (
        {
            id(body)
            for proxy in plan.proxies.values()
            for part in (proxy.bootstrap, *(resource.body for resource in proxy.resources))
            for body in mappings(part)
            if "@type" in body
        }
        for plan in made
    )
    assert not first & second
