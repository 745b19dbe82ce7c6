"""What the attacker reads off a declaration, held against the model's own reading of it."""

from hypothesis import given
from hypothesis import strategies as st

from tests.dataplane.attacks.shop import SHOP
from watertight.attack.arena import Listening
from watertight.dataplane.attacks import envoy_probes
from watertight.dataplane.attacks.gateway import unrouted_path
from watertight.dataplane.attacks.reach import takes_its_own
from watertight.dataplane.attacks.ways import (
    FORBIDDEN,
    Way,
    covers,
    fill,
    granted,
    sealed_pairs,
    ungranted_methods,
    ungranted_paths,
    ways,
)
from watertight.model.system import Gateway, HTTPGrant, Listen, Protocol, Route
from watertight.model.templates import parse_template

LITERALS = st.text(alphabet="abcXYZ019._~-", min_size=1, max_size=6).filter(
    lambda text: text not in {".", ".."}
)
SEGMENTS = st.one_of(LITERALS, st.sampled_from(["*", "{name}"]))
TEMPLATES = st.builds(
    lambda parts, last: "/" + "/".join([*parts, *last]),
    st.lists(SEGMENTS, min_size=1, max_size=4).filter(lambda parts: parts.count("{name}") < 2),
    st.sampled_from([[], ["**"], [""]]),
)


@given(TEMPLATES)
def test_a_filled_template_is_covered(template: str) -> None:
    assert covers(template, fill(template))


@given(TEMPLATES, TEMPLATES)
def test_two_readings_of_templates_agree(template: str, other: str) -> None:
    path = fill(other)
    assert covers(template, path) == parse_template(template).matches(path)


@given(TEMPLATES, st.lists(st.sampled_from([";", ";x", "%3bx", "a", "a;x"]), min_size=1))
def test_two_readings_of_parameters_agree(template: str, ends: list[str]) -> None:
    path = "/".join([fill(template).rpartition("/")[0], *ends])
    for pattern in (template, template.rpartition("/")[0] + "/"):
        assert covers(pattern, path) == parse_template(pattern).matches(path)


@given(st.lists(TEMPLATES, min_size=1, max_size=3))
def test_what_is_called_ungranted_is_granted_by_nobody(templates: list[str]) -> None:
    grants = tuple(HTTPGrant("GET", template) for template in templates)
    way = Way("a", "b", Listen(Protocol.HTTP, 1), grants)
    for path in ungranted_paths(way, "GET"):
        assert not granted(way, "GET", path)
    for method in ungranted_methods(way, fill(templates[0])):
        assert not granted(way, method, fill(templates[0]))


def test_a_named_segment_is_a_wildcard() -> None:
    assert covers("/orders/{order}", fill("/orders/{order}"))
    assert not covers("/orders/{order}", "/orders/")
    assert not covers("/orders/**", "/orders/")
    assert covers("/orders/**", "/orders/a/b")


def test_every_ordered_pair_is_either_a_way_or_sealed() -> None:
    listening = [name for name, service in SHOP.services.items() if service.listens]
    pairs = {(a, b) for a in SHOP.workloads() for b in listening if a != b}
    declared = {(way.caller, way.callee) for way in ways(SHOP)}
    sealed = {(a, b) for a, b, _listens in sealed_pairs(SHOP)}
    assert declared | sealed == pairs
    assert not declared & sealed


def test_probes_follow_from_the_declaration_alone_and_have_names_of_their_own() -> None:
    probes = envoy_probes(SHOP)
    names = [(p.id, p.channel, p.attempt) for p in probes]
    assert len(set(names)) == len(names)
    assert names == [(p.id, p.channel, p.attempt) for p in envoy_probes(SHOP)]
    assert {p.kind for p in probes} == {"attack", "use"}


@given(st.lists(TEMPLATES, min_size=1, max_size=4))
def test_a_path_that_no_route_names_is_sought_until_there_is_none(templates: list[str]) -> None:
    gateway = Gateway("shop.example", tuple(Route(template, "web") for template in templates))
    path = unrouted_path(gateway)
    if path is None:
        assert {"/", "/**"} <= set(templates)
    else:
        assert not any(parse_template(template).matches(path) for template in templates)


def test_routes_may_leave_no_path() -> None:
    everything = Gateway("shop.example", (Route("/", "web"), Route("/**", "web", ("POST",))))
    assert unrouted_path(everything) is None
    assert unrouted_path(Gateway("shop.example", (Route("/**", "web"),))) == "/"
    assert unrouted_path(Gateway("shop.example", (Route("/*", "web"),))) == (
        f"/{FORBIDDEN}/{FORBIDDEN}"
    )


def test_who_takes_a_connection_of_the_callers_own() -> None:
    everywhere = [Listening("web", "app", "0.0.0.0:8000"), Listening("web", "app", "[::]:9000")]
    assert takes_its_own(everywhere, "web", "127.3.4.5", 8000)
    assert takes_its_own(everywhere, "web", "127.3.4.5", 9000)
    assert not takes_its_own(everywhere, "web", "127.3.4.5", 8001)
    stray = [*everywhere, Listening("web", "proxy", "127.3.4.5:8000")]
    assert not takes_its_own(stray, "web", "127.3.4.5", 8000)
    others = [Listening("orders", "app", "0.0.0.0:8000")]
    assert not takes_its_own(others, "web", "127.3.4.5", 8000)


def test_each_grant_is_used_for_real() -> None:
    used = [p for p in envoy_probes(SHOP) if p.id == "use.grant"]
    assert len(used) == sum(len(channel.grants) for channel in SHOP.channels)
