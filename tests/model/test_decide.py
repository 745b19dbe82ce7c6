"""`explain`: allowed by which line, or denied for which reason and with what to add."""

import pytest

from watertight.model.decide import Decision, decide
from watertight.model.load import load_text

SYSTEM = load_text("""\
trust_domain: shop.internal
services:
  web: {run: [./web], listens: {http: 8000}}
  orders: {run: [./orders], listens: {http: 8001}}
  catalogue: {run: [./catalogue], listens: {grpc: 8002}}
  legacy: {run: [./legacy], listens: {tcp: 8003}}
  mailer: {run: [./mailer], listens: {http: 8004}}
resources:
  orders-db: {kind: postgresql}
channels:
  - {from: web, to: orders, allow: [GET /orders/*, POST /orders]}
  - {from: web, to: catalogue, allow: [shop.Catalogue/Get, shop.Stock/*]}
  - {from: orders, to: legacy}
  - {from: orders, to: mailer}
  - {from: orders, to: orders-db}
gateway:
  hostname: shop.example
  issuers:
    main: {issuer: "https://login.shop.example", audiences: [shop], jwks: jwks.json}
  routes:
    - path: /api/orders/*
      to: orders
      rewrite: /orders/*
      require: {issuer: main, scopes: ["orders:read"]}
    - {path: /**, to: web, require: anyone, limit: {per: address, rate: 1/s}}
""")


def judge(*call: str) -> Decision:
    return decide(SYSTEM, *call)


@pytest.mark.parametrize(
    ("call", "line"),
    [
        (("web", "orders"), 11),
        (("web", "orders", "GET", "/orders/1"), 11),
        (("web", "orders", "GET", "/orders/1?x=/../2"), 11),
        (("web", "orders", "GET", "/x/../orders//1"), 11),
        (("web", "orders", "GET", "/%6frders/1"), 11),
        (("web", "orders", "POST", "/orders"), 11),
        (("web", "catalogue", "shop.Catalogue/Get"), 12),
        (("web", "catalogue", "shop.Catalogue", "Get"), 12),
        (("web", "catalogue", "POST", "/shop.Stock/Anything"), 12),
        (("orders", "legacy"), 13),
        (("orders", "mailer", "DELETE", "/anything"), 14),
        (("orders", "mailer", "GET", "/a%2Fb/..;/%5c"), 14),
        (("orders", "orders-db"), 15),
        (("outside", "orders"), 21),
        (("outside", "orders", "GET", "/api/orders/1"), 21),
        (("outside", "gateway", "GET", "/api/orders/1"), 21),
        (("outside", "gateway", "GET", "/anything"), 25),
        (("gateway", "orders", "GET", "/orders/1"), 21),
    ],
)
def test_allowed_by_the_line(call: tuple[str, ...], line: int) -> None:
    decision = judge(*call)
    assert decision.allowed, decision.reason
    assert decision.at is not None
    assert decision.at.line == line


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (("web", "orders", "DELETE", "/orders/1"), "add `DELETE /orders/1` to its `allow`"),
        (("web", "orders", "GET", "/orders"), "grants only `GET /orders/*`, `POST /orders`"),
        (("web", "orders", "GET", "/orders/"), "grants only"),
        (("web", "orders", "GET", "/orders/1/lines"), "grants only"),
        (("web", "orders", "GET", "/orders/%2e%2e"), "grants only"),
        (("web", "orders", "GET", "/orders/a%2fb"), "Every proxy refuses"),
        (("web", "orders", "GET", "orders/1"), "does not start with `/`"),
        (("orders", "mailer", "GET", "/%00"), "Every proxy refuses"),
        (("web", "catalogue", "shop.Catalogue/Set"), "add `shop.Catalogue/Set` to its `allow`"),
        (("web", "catalogue", "GET", "/shop.Catalogue/Get"), "grants only"),
        (("web", "catalogue", "POST", "/shop.Stock/a/b"), "grants only"),
        (("orders", "web"), "add under `channels`: {from: orders, to: web}"),
        (("mailer", "orders", "GET", "/a"), "{from: mailer, to: orders, allow: [GET /a]}"),
        (("mailer", "catalogue", "a.B/C"), "{from: mailer, to: catalogue, allow: [a.B/C]}"),
        (("mailer", "legacy", "GET", "/a"), "{from: mailer, to: legacy}"),
        (("web", "web"), "needs no channel to itself"),
        (("web", "oders"), "Did you mean `orders`?"),
        (("webb", "orders"), "Did you mean `web`?"),
        (("orders-db", "orders"), "is a resource"),
        (("web", "gateway"), "No service has a channel to the gateway"),
        (("gateway", "gateway"), "does not call itself"),
        (("outside", "orders-db"), "leads to services only"),
        (("outside", "mailer"), "No route of the gateway leads to `mailer`"),
        (("outside", "orders", "GET", "/shop"), "leads to `web` instead"),
        (("outside", "orders", "POST", "/api/orders/1"), "No route of the gateway takes"),
        (("outside", "gateway", "GET", "/a%5cb"), "Every proxy refuses"),
        (("outside", "web", "GET", "/"), "takes it and refuses it"),
        (("gateway", "orders", "GET", "/api/orders/1"), "No route of the gateway takes"),
        (("gateway", "orders", "POST", "/orders"), "No route of the gateway takes"),
    ],
)
def test_denied_for_the_reason(call: tuple[str, ...], reason: str) -> None:
    decision = judge(*call)
    assert not decision.allowed
    assert reason in decision.reason


def test_a_guarded_route_says_which_token_opens_it() -> None:
    assert judge("outside", "orders", "GET", "/api/orders/1").reason == (
        "The route `GET /api/orders/*` leads to `orders`; it is open to tokens of the issuer "
        "`main` with the scope `orders:read`."
    )


@pytest.mark.parametrize(
    ("demand", "said"),
    [
        (
            "claims: {realm_access: {roles: [admin, 7]}}",
            'with the claim realm_access → roles: "admin" and the claim realm_access → roles: 7.',
        ),
        (
            'any_claims: [{"https://a.b/c": x, d: true}, {e: y}]',
            'with the claim https://a.b/c: "x" and d: true or e: "y".',
        ),
    ],
)
def test_a_guarded_route_says_which_claims_open_it(demand: str, said: str) -> None:
    system = load_text(f"""\
trust_domain: shop.internal
services: {{web: {{run: [./web], listens: {{http: 8000}}}}}}
gateway:
  hostname: shop.example
  issuers:
    main: {{issuer: "https://login.shop.example", audiences: [shop], jwks: jwks.json}}
  routes:
    - {{path: /a, to: web, require: {{issuer: main, {demand}}}}}
""")
    reason = decide(system, "outside", "web", "GET", "/a").reason
    assert reason.endswith(said), reason


def test_without_a_gateway_nothing_comes_in() -> None:
    system = load_text("trust_domain: a\nservices: {b: {run: [b], listens: {http: 1}}}\n")
    assert "No gateway is declared" in decide(system, "outside", "b").reason


def test_a_revoked_identity_is_denied() -> None:
    left = SYSTEM.without_identities(frozenset({"web"}))
    assert not decide(left, "web", "orders", "GET", "/orders/1").allowed
    assert not decide(left, "outside", "gateway", "GET", "/anything").allowed


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (("web", "orders", "get", "/payments"), "Did you mean `GET`?"),
        (("web", "orders", "FOO", "/x"), "`FOO` is not a method that can be granted"),
        (("web", "orders", "CONNECT", "/x"), "No grant can allow it"),
        (("web", "catalogue", "GET", "/x"), "No grant can allow it"),
        (("mailer", "orders", "get", "/x"), "Did you mean `GET`?"),
        (("mailer", "catalogue", "GET", "/x"), "No grant can allow it"),
        (("outside", "web", "FOO", "/x"), "No route can take it: `FOO`"),
    ],
)
def test_nothing_is_advised_that_lint_refuses(call: tuple[str, ...], says: str) -> None:
    decision = judge(*call)
    assert not decision.allowed
    assert says in decision.reason
    assert "To allow it" not in decision.reason


def test_advice_can_be_pasted() -> None:
    reason = judge("mailer", "orders", "GET", "/a,b").reason
    assert 'allow: ["GET /a,b"]}' in reason
