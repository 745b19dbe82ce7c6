"""What cannot be enforced as declared is refused, with its line; nothing is emitted open."""

from dataclasses import replace

import pytest

from tests.dataplane.compile.systems import KEYS, PLACEMENT, SHOP, line
from watertight.dataplane.compile import NotCompilable, compile_envoy
from watertight.model.system import (
    Channel,
    Gateway,
    HTTPGrant,
    Limit,
    Per,
    Requirement,
    Route,
    System,
)

AT = line(77)


def with_channel(channel: Channel) -> System:
    """The shop with this channel only."""
    return replace(SHOP, channels=(channel,), gateway=None)


def with_route(route: Route) -> System:
    """The shop with this route only."""
    assert SHOP.gateway is not None
    gateway: Gateway = replace(SHOP.gateway, routes=(route,))
    return replace(SHOP, channels=(), gateway=gateway)


TOO_DEEP = "/*" * 10

REFUSED = {
    "grants on tcp": with_channel(Channel("orders", "stock", (HTTPGrant("GET", "/"),), at=AT)),
    "retries on tcp": with_channel(Channel("orders", "stock", retries=1, at=AT)),
    "timeout on tcp": with_channel(Channel("orders", "stock", timeout_seconds=1, at=AT)),
    "nobody listens": with_channel(Channel("orders", "mailer", at=AT)),
    "not declared": with_channel(Channel("orders", "nobody", at=AT)),
    "ten wildcards": with_channel(
        Channel("mailer", "orders", (HTTPGrant("GET", TOO_DEEP),), at=AT)
    ),
    "route to tcp": with_route(Route("/x", "stock", at=AT)),
    "route to nobody": with_route(Route("/x", "nobody", at=AT)),
    "route to who does not listen": with_route(Route("/x", "mailer", at=AT)),
    "route with ten wildcards": with_route(Route(TOO_DEEP, "orders", at=AT)),
    "rewrite loses a wildcard": with_route(Route("/a/*", "orders", rewrite="/b", at=AT)),
    "unknown issuer": with_route(Route("/x", "orders", require=Requirement("other"), at=AT)),
    "subject of anyone": with_route(
        Route("/x", "orders", limit=Limit(Per.SUBJECT, 1, 1), at=AT),
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_enforced_is_refused(what: str) -> None:
    keys = KEYS | {"other": KEYS["main"]}
    with pytest.raises(NotCompilable) as refusal:
        compile_envoy(REFUSED[what], PLACEMENT, keys)
    assert refusal.value.at == AT
    assert str(refusal.value).startswith("watertight.yaml:77:5: ")


def test_an_issuer_without_keys_is_refused() -> None:
    with pytest.raises(NotCompilable, match=r":20:5: the keys of issuer `main` are not known"):
        compile_envoy(SHOP, PLACEMENT, {})
