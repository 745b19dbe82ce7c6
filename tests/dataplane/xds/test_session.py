"""The xDS rules D1 to D11 (Envoy's xDS protocol page), each as an exchange that can be read."""

import pytest

from tests.dataplane.xds.playbook import (
    CLUSTER,
    ENDPOINT,
    EXTENSION,
    LISTENER,
    ROUTE,
    SECRET,
    Exchange,
    resource,
    version,
)
from watertight.dataplane.resources import ResourceType
from watertight.dataplane.xds.events import (
    Acknowledged,
    Overstepped,
    Refused,
    Requested,
    Send,
)
from watertight.dataplane.xds.session import Session
from watertight.model.system import Position

A_PROXY = (
    resource(CLUSTER, "orders"),
    resource(LISTENER, "out"),
    resource(ROUTE, "in"),
    resource(SECRET, "default"),
)


def a_started_proxy() -> Exchange:
    """A proxy that has asked for everything in ``A_PROXY`` and holds it."""
    exchange = Exchange()
    exchange.wants(*A_PROXY)
    assert exchange.asks(CLUSTER) == ["Cluster +orders"]
    assert exchange.asks(SECRET, "default") == ["Secret +default"]
    assert exchange.acks() == []
    assert exchange.acks() == []
    assert exchange.asks(LISTENER) == ["Listener +out"]
    assert exchange.asks(ROUTE, "in") == ["RouteConfiguration +in"]
    assert exchange.acks_all() == []
    assert exchange.pending == []
    return exchange


def test_d1_an_ack_puts_the_version_in_force() -> None:
    exchange = Exchange()
    exchange.wants(resource(CLUSTER, "orders"))
    exchange.asks(CLUSTER)
    assert exchange.acks() == []
    assert exchange.facts == [Acknowledged(CLUSTER, {"orders": version(CLUSTER, "orders")})]


def test_d1_a_nack_is_told_by_error_detail_and_blames_the_line() -> None:
    line = Position("watertight.yaml", 7, 3)
    exchange = Exchange()
    cluster = resource(CLUSTER, "orders")
    exchange.wants(type(cluster)(cluster.type, cluster.name, cluster.body, line))
    exchange.asks(CLUSTER)
    assert exchange.nacks("no such thing") == []
    blamed = Refused(CLUSTER, "orders", version(CLUSTER, "orders"), "no such thing", line)
    assert exchange.facts == [blamed]
    assert exchange.session.refusals == (blamed,)


def test_d1_what_was_refused_is_not_sent_again_until_it_changes() -> None:
    exchange = a_started_proxy()
    assert exchange.wants(*A_PROXY, resource(CLUSTER, "bad")) == ["Cluster +bad"]
    assert exchange.nacks("bad") == []
    assert exchange.asks(SECRET, "default") == ["Secret +default"]
    assert exchange.wants(*A_PROXY, resource(CLUSTER, "bad", 2)) == ["Cluster +bad"]
    assert exchange.acks_all() == []
    assert exchange.session.refusals == ()


def test_what_is_accepted_in_the_end_is_no_longer_refused() -> None:
    exchange = Exchange()
    exchange.wants(resource(ROUTE, "in"))
    exchange.asks(ROUTE, "in")
    exchange.nacks("not now")
    assert exchange.asks(ROUTE, "in") == ["RouteConfiguration +in"]
    exchange.acks()
    assert exchange.session.refusals == ()


def test_to_want_the_refused_once_more_tries_it_once_more() -> None:
    exchange = a_started_proxy()
    wanted = (*A_PROXY, resource(LISTENER, "busy-port"))
    exchange.wants(*wanted)
    exchange.nacks("cannot bind: Address already in use")
    assert exchange.wants(*wanted) == ["Listener +busy-port"]


def test_to_go_back_after_a_refusal_sends_nothing() -> None:
    """The proxy kept what it had, so it has it."""
    exchange = a_started_proxy()
    exchange.wants(resource(CLUSTER, "orders", 2), *A_PROXY[1:])
    exchange.nacks("worse than before")
    assert exchange.wants(*A_PROXY) == []
    assert exchange.pending == []


def test_a_refused_batch_is_sent_again_one_by_one_to_find_the_culprit() -> None:
    exchange = Exchange()
    exchange.wants(*(resource(CLUSTER, name) for name in ("a", "b", "c")))
    assert exchange.asks(CLUSTER) == ["Cluster +a +b +c"]
    assert exchange.nacks("something is wrong with b") == ["Cluster +a"]
    assert exchange.settling()
    assert exchange.acks() == ["Cluster +b"]
    assert exchange.nacks("something is wrong with b") == ["Cluster +c"]
    assert exchange.acks() == []
    assert not exchange.settling()
    assert [r.name for r in exchange.session.refusals] == ["b"]


def test_to_go_back_from_a_refused_batch_undoes_what_may_have_been_taken() -> None:
    """Envoy takes the good ones of a refused batch; which, only it knows."""
    exchange = Exchange()
    exchange.wants(resource(CLUSTER, "a"))
    exchange.asks(CLUSTER)
    exchange.acks()
    exchange.wants(resource(CLUSTER, "a", 2), resource(CLUSTER, "b"))
    exchange.nacks("something is wrong")
    exchange.nacks("a is wrong")
    exchange.acks()
    assert exchange.wants(resource(CLUSTER, "a")) == ["Cluster +a"]
    assert exchange.acks() == ["Cluster -b"]


def test_d3_a_subscription_with_a_stale_nonce_is_honoured() -> None:
    exchange = Exchange()
    exchange.wants(resource(ROUTE, "in"))
    exchange.asks(ROUTE, "elsewhere")
    assert exchange.asks(ROUTE, "in", nonce="from another life") == ["RouteConfiguration +in"]


def test_d4_a_first_request_without_names_means_all() -> None:
    exchange = Exchange()
    exchange.wants(resource(LISTENER, "a"), resource(LISTENER, "b"))
    assert exchange.asks(LISTENER) == ["Listener +a +b"]


def test_d4_a_star_means_all() -> None:
    exchange = Exchange()
    exchange.wants(resource(LISTENER, "a"), resource(LISTENER, "b"))
    assert exchange.asks(LISTENER, "*") == ["Listener +a +b"]


def test_d4_later_emptiness_is_no_wildcard() -> None:
    exchange = Exchange()
    exchange.wants(resource(LISTENER, "a"), resource(LISTENER, "b"))
    assert exchange.asks(LISTENER, "a") == ["Listener +a"]
    assert exchange.acks() == []
    assert exchange.asks(LISTENER, drops=("a",)) == []
    assert exchange.wants(resource(LISTENER, "a", 2), resource(LISTENER, "b", 2)) == []


def test_d4_a_first_request_without_names_of_another_type_means_none() -> None:
    """Only listeners and clusters have an implicit wildcard: no secret goes out unasked."""
    exchange = Exchange()
    exchange.wants(resource(SECRET, "default"))
    assert exchange.asks(SECRET) == []
    assert exchange.asks(SECRET, "default") == ["Secret +default"]


def test_d4_to_drop_the_star_keeps_what_was_asked_for_by_name() -> None:
    exchange = Exchange()
    exchange.wants(resource(CLUSTER, "a"), resource(CLUSTER, "b"))
    exchange.asks(CLUSTER, "*", "a")
    exchange.acks_all()
    exchange.asks(CLUSTER, drops=("*",))
    assert exchange.wants(resource(CLUSTER, "a", 2), resource(CLUSTER, "b", 2)) == ["Cluster +a"]


def test_d6_what_goes_away_is_removed() -> None:
    exchange = a_started_proxy()
    assert exchange.wants(*A_PROXY[1:]) == ["Cluster -orders"]
    exchange.acks()
    assert exchange.facts[-1] == Acknowledged(CLUSTER, {"orders": ""})
    assert exchange.pending == []


def test_d6_what_does_not_exist_is_said_to_be_removed() -> None:
    exchange = Exchange()
    exchange.wants()
    assert exchange.asks(ROUTE, "nowhere") == ["RouteConfiguration -nowhere"]
    exchange.acks()
    assert "it asks for the RouteConfiguration 'nowhere', which does not exist" in exchange.pending
    assert exchange.wants(resource(ROUTE, "nowhere")) == ["RouteConfiguration +nowhere"]


def test_d6_what_is_asked_for_again_is_sent_again() -> None:
    exchange = a_started_proxy()
    assert exchange.asks(ROUTE, "in") == ["RouteConfiguration +in"]


def test_d6_a_proxy_that_comes_back_unchanged_is_sent_nothing() -> None:
    exchange = Exchange()
    exchange.wants(*A_PROXY)
    assert exchange.asks(CLUSTER, holds={"orders": version(CLUSTER, "orders")}) == []
    assert exchange.asks(LISTENER, holds={"out": version(LISTENER, "out")}) == []
    assert exchange.asks(ROUTE, "in", holds={"in": version(ROUTE, "in")}) == []
    assert exchange.asks(SECRET, "default", holds={"default": version(SECRET, "default")}) == []
    assert exchange.pending == []


def test_d6_a_proxy_that_comes_back_is_sent_the_difference() -> None:
    exchange = Exchange()
    exchange.wants(resource(CLUSTER, "a"), resource(CLUSTER, "b", 2), resource(CLUSTER, "d"))
    held = {name: version(CLUSTER, name) for name in ("a", "b", "c")}
    assert exchange.asks(CLUSTER, holds=held) == ["Cluster +b +d"]
    assert exchange.asks(LISTENER) == []
    assert exchange.acks() == ["Listener"]
    assert exchange.acks() == ["Cluster -c"]


def test_d6_to_drop_what_was_never_asked_for_does_nothing() -> None:
    exchange = a_started_proxy()
    assert exchange.asks(ROUTE, drops=("phantom",)) == []


def test_d6_to_drop_a_name_under_a_star_is_answered() -> None:
    exchange = Exchange()
    exchange.wants(resource(CLUSTER, "a"))
    exchange.asks(CLUSTER, "*", "a", "b")
    exchange.acks_all()
    assert exchange.asks(CLUSTER, drops=("a", "b")) == ["Cluster +a -b"]


def test_d7_clusters_then_endpoints_then_listeners_then_extensions_then_routes() -> None:
    types = (CLUSTER, ENDPOINT, LISTENER, EXTENSION, ROUTE)
    exchange = Exchange()
    exchange.wants(*(resource(type_, "x") for type_ in types))
    for type_ in types:
        exchange.asks(type_, *(() if type_ in {CLUSTER, LISTENER} else ("x",)))
    exchange.acks_all()
    assert exchange.wants(*(resource(type_, "x", 2) for type_ in types)) == ["Cluster +x"]
    assert exchange.acks() == ["ClusterLoadAssignment +x"]
    assert exchange.acks() == ["Listener +x"]
    assert exchange.acks() == ["TypedExtensionConfig +x"]
    assert exchange.acks() == ["RouteConfiguration +x"]
    assert exchange.acks() == []


def test_d7_what_is_stale_goes_last() -> None:
    exchange = a_started_proxy()
    moved = (
        resource(CLUSTER, "orders-2"),
        resource(LISTENER, "out"),
        resource(ROUTE, "in", 2),
        resource(SECRET, "default"),
    )
    assert exchange.wants(*moved) == ["Cluster +orders-2"]
    assert exchange.acks() == ["RouteConfiguration +in"]
    assert exchange.acks() == ["Cluster -orders"]


def test_d7_a_refused_cluster_keeps_the_last_good_routes() -> None:
    exchange = a_started_proxy()
    moved = (resource(CLUSTER, "orders", 2), A_PROXY[1], resource(ROUTE, "in", 2), A_PROXY[3])
    assert exchange.wants(*moved) == ["Cluster +orders"]
    assert exchange.nacks("no") == []
    assert exchange.pending == ["a RouteConfiguration response is still to be sent"]


def test_a_proxy_that_starts_with_a_refused_cluster_starts_all_the_same() -> None:
    """It has no last good to keep, and would wait for its listeners until a time-out."""
    exchange = Exchange()
    exchange.wants(*A_PROXY)
    exchange.asks(CLUSTER)
    assert exchange.asks(LISTENER) == []
    assert exchange.nacks("no") == ["Listener +out"]
    assert exchange.acks() == []
    assert exchange.wants(A_PROXY[0], resource(LISTENER, "out", 2)) == ["Cluster +orders"]
    assert exchange.nacks("no") == []


def test_a_removed_listener_waits_for_nothing() -> None:
    """It is a revocation: it goes out first, past an unanswered and past a refused response."""
    exchange = a_started_proxy()
    assert exchange.wants(resource(CLUSTER, "orders", 2), *A_PROXY[1:]) == ["Cluster +orders"]
    assert exchange.wants(resource(CLUSTER, "orders", 2), *A_PROXY[2:]) == ["Listener -out"]
    assert exchange.nacks("no") == []
    assert exchange.acks() == []


def test_a_rotated_secret_waits_for_nothing() -> None:
    exchange = a_started_proxy()
    exchange.wants(resource(CLUSTER, "orders", 2), *A_PROXY[1:])
    exchange.nacks("no")
    rotated = resource(SECRET, "default", 2)
    assert exchange.wants(rotated, types=frozenset({SECRET})) == ["Secret +default"]


def test_d8_a_warming_cluster_is_answered_even_if_nothing_changed() -> None:
    exchange = Exchange()
    exchange.wants(resource(ENDPOINT, "orders"))
    exchange.asks(ENDPOINT, "orders")
    exchange.acks()
    assert exchange.asks(ENDPOINT, "orders") == ["ClusterLoadAssignment +orders"]


def test_a_new_subscription_is_answered_while_another_response_is_unanswered() -> None:
    """Else a listener would wait for its routes while we wait for the listener's ACK."""
    exchange = Exchange()
    exchange.wants(*A_PROXY)
    exchange.asks(CLUSTER)
    assert exchange.asks(SECRET, "default") == ["Secret +default"]
    assert exchange.asks(ROUTE, "in") == ["RouteConfiguration +in"]


def test_a_proxy_without_anything_is_told_so() -> None:
    """Envoy waits for the first answer of a wildcard type before it starts."""
    exchange = Exchange()
    exchange.wants()
    assert exchange.asks(CLUSTER) == ["Cluster"]
    assert exchange.acks() == []
    assert exchange.asks(LISTENER) == ["Listener"]
    assert exchange.acks() == []
    assert exchange.pending == []


def test_d9_no_name_twice_in_a_response() -> None:
    exchange = Exchange()
    exchange.wants(resource(CLUSTER, "a"), resource(CLUSTER, "b"))
    assert exchange.asks(CLUSTER, "*", "a", "a") == ["Cluster +a"]
    assert exchange.acks() == ["Cluster +b"]


def test_d10_what_is_unchanged_is_not_sent() -> None:
    exchange = a_started_proxy()
    assert exchange.wants(*A_PROXY) == []
    assert exchange.wants(*reversed(A_PROXY)) == []


def test_d10_a_burst_costs_one_more_response() -> None:
    exchange = a_started_proxy()
    rest = A_PROXY[1:]
    assert exchange.wants(resource(CLUSTER, "orders", 2), *rest) == ["Cluster +orders"]
    for edition in range(3, 100):
        assert exchange.wants(resource(CLUSTER, "orders", edition), *rest) == []
    assert exchange.acks() == ["Cluster +orders"]
    assert exchange.acks() == []
    assert exchange.pending == []


def test_d11_what_is_not_known_yet_is_not_answered() -> None:
    """A control plane that starts anew must not take away what a proxy has."""
    exchange = Exchange()
    assert exchange.asks(CLUSTER, holds={"orders": version(CLUSTER, "orders")}) == []
    assert exchange.asks(SECRET, "default") == []
    configuration = frozenset(ResourceType) - {SECRET}
    assert exchange.wants(*A_PROXY[:3], types=configuration) == []
    assert exchange.wants(A_PROXY[3], types=frozenset({SECRET})) == ["Secret +default"]


def test_pending_says_what_a_proxy_has_not_asked_for() -> None:
    exchange = Exchange()
    assert exchange.pending == ["it was given no Clusters yet", "it was given no Listeners yet"]
    exchange.wants(*A_PROXY)
    assert exchange.pending == [
        "it has not asked for its Clusters",
        "it has not asked for its Listeners",
        "it has not asked for the RouteConfiguration 'in'",
    ]
    exchange.asks(CLUSTER)
    assert exchange.pending[0] == "it has not asked for its Listeners"
    assert "it has not answered the last Cluster response" in exchange.pending


def test_what_was_unsubscribed_before_its_ack_is_not_held() -> None:
    session = Session()
    exchange = Exchange()
    exchange.session = session
    exchange.wants(resource(ROUTE, "in"))
    exchange.asks(ROUTE, "in")
    exchange.asks(ROUTE, drops=("in",))
    exchange.acks()
    assert exchange.facts == [Acknowledged(ROUTE, {})]


@pytest.mark.parametrize("nonce", ["", "unknown"])
def test_d1_an_error_without_our_nonce_blames_nobody(nonce: str) -> None:
    exchange = a_started_proxy()
    commands = exchange.session.handle(Requested(CLUSTER, nonce, "what?"))
    assert not [c for c in commands if isinstance(c, Send | Refused)]


def test_a_proxy_that_asks_without_end_is_cut_off() -> None:
    exchange = a_started_proxy()
    with pytest.raises(Overstepped, match="names of one type"):
        exchange.asks(ROUTE, *(f"phantom-{number}" for number in range(10_001)))
    with pytest.raises(Overstepped, match="bytes"):
        exchange.asks(ROUTE, "x" * 1_025)


def test_a_proxy_that_never_answers_is_cut_off() -> None:
    exchange = a_started_proxy()
    for _ in range(10_001):
        exchange.asks(ROUTE, "in")
    with pytest.raises(Overstepped, match="unanswered"):
        exchange.asks(ROUTE, "in")
