"""`plan`: channels, grants and routes gained, lost and altered, and which changes tighten."""

from dataclasses import replace

import pytest

from watertight.model.diff import awaiting_restart, compare
from watertight.model.load import load_text
from watertight.model.system import Claim, Service, System

BASE = """\
trust_domain: shop.internal
services:
  web: {run: [./web]}
  orders: {run: [./orders], listens: {http: 8001}}
  catalogue: {run: [./catalogue], listens: {grpc: 8002}}
resources:
  orders-db: {kind: postgresql}
channels:
  - {from: web, to: orders, allow: [GET /orders/*], timeout: 2s}
  - {from: web, to: catalogue}
gateway:
  hostname: shop.example
  issuers:
    main: {issuer: "https://login.shop.example", audiences: [shop], jwks: jwks.json}
  routes:
    - {path: /orders/*, to: orders, require: {issuer: main}, limit: {per: address, rate: 10/s}}
    - {path: /a, to: orders, require: {issuer: main}}
"""
BEFORE = load_text(BASE)


def after(*edits: tuple[str, str]) -> System:
    text = BASE
    for old, new in edits:
        assert old in text
        text = text.replace(old, new)
    return load_text(text)


def lines(*edits: tuple[str, str]) -> list[tuple[str, bool]]:
    return [(str(change), change.tightens) for change in compare(BEFORE, after(*edits))]


ISSUER = '    main: {issuer: "https://login.shop.example"'
FIRST, SHORT = BASE.splitlines(keepends=True)[-2:]
MAIN = "to: orders, require: {issuer: main}}"
WEB = "  web: {run: [./web]}\n"
DATABASE = "  orders-db: {kind: postgresql}\n"


@pytest.mark.parametrize(
    ("edit", "line", "tightens"),
    [
        (("GET /orders/*]", "GET /orders/*, POST /orders]"),
         "+ grant web -> orders: POST /orders", False),
        (("timeout: 2s", "timeout: 500ms"),
         "~ channel web -> orders: timeout 2s → 500ms", True),
        ((", timeout: 2s", ""),
         "~ channel web -> orders: timeout 2s → none", False),
        (("timeout: 2s", "timeout: 2s, retries: 1"),
         "~ channel web -> orders: retries 0 → 1", False),
        (("allow: [GET /orders/*], ", ""),
         "~ channel web -> orders: GET /orders/* → identity only", False),
        (("to: catalogue}", "to: catalogue, allow: [shop.A/B]}"),
         "~ channel web -> catalogue: identity only → shop.A/B", True),
        (("  - {from: web, to: catalogue}\n", ""),
         "- channel web -> catalogue: identity only", True),
        (("gateway:", "  - {from: orders, to: orders-db, tables: {}}\ngateway:"),
         "+ channel orders -> orders-db: nothing", False),
        ((WEB, WEB.replace("web]", "web, -v]")),
         "~ service web: run changed", False),
        ((WEB, WEB + "  mailer: {run: [./mailer], listens: {tcp: 1}}\n"),
         "+ service mailer on tcp 1", False),
        (("listens: {http: 8001}", "listens: {http: 8009}"),
         "~ service orders: on http 8001 → on http 8009", True),
        ((WEB, WEB.replace("web]", "web], listens: {http: 8000}")),
         "~ service web: no port → on http 8000", False),
        (("trust_domain: shop.internal", "trust_domain: shop.example"),
         "~ trust domain: shop.internal → shop.example: every identity changes", True),
        ((DATABASE, DATABASE + "  jobs: {kind: nats}\n"),
         "+ resource jobs (nats)", False),
        (("{kind: postgresql}", "{kind: postgresql, database: x}"),
         "~ resource orders-db changed", False),
        (("resources:\n  orders-db: {kind: postgresql}\n", ""),
         "- resource orders-db", True),
        (("hostname: shop.example", "hostname: shop.example\n  max_request_size: 1KiB"),
         "~ gateway: max_request_size 1MiB → 1KiB", True),
        (("hostname: shop.example", "hostname: shop.example\n  listen: '[::1]:9844'"),
         "~ gateway: listen 127.0.0.1:8443 → [::1]:9844", True),
        (("hostname: shop.example", "hostname: shop.test"),
         "~ gateway: hostname shop.example → shop.test", True),
        ((ISSUER, ISSUER.replace("login", "id")),
         "~ issuer main changed", True),
        (("rate: 10/s", "rate: 20/s"),
         "~ route GET /orders/* -> orders: 10/s per address → 20/s per address", False),
        (("rate: 10/s", "rate: 10/m"),
         "~ route GET /orders/* -> orders: 10/s per address → 10/m per address", True),
        (("per: address", "per: subject"),
         "~ route GET /orders/* -> orders: 10/s per address → 10/s per subject", True),
        ((f"/a, {MAIN}", "/a, to: orders, require: anyone}"),
         "~ route GET /a -> orders: (issuer main) → (anyone)", False),
        ((f"/a, {MAIN}", "/a, to: orders, require: {issuer: main, scopes: [x]}}"),
         "~ route GET /a -> orders: (issuer main) → (issuer main x)", True),
        (("rate: 10/s", "rate: 600/m"),
         "~ route GET /orders/* -> orders: 10/s per address → 600/m per address", False),
        (("{path: /a,", "{path: /a, timeout: 1s,"),
         "~ route GET /a -> orders: timeout none → 1s", True),
        (("{path: /a,", '{path: /a, cors: {origins: ["https://x.example"]},'),
         "~ route GET /a -> orders: pages of https://x.example may use it", False),
        (("{path: /a,", "{path: /a, rewrite: /b,"),
         "~ route GET /a -> orders: the service sees /a → /b", True),
        ((SHORT, ""),
         "- route GET /a -> orders", True),
        ((SHORT, SHORT + "    - {path: /b, methods: [GET, POST], to: orders, require: anyone}\n"),
         "+ route GET|POST /b -> orders (anyone)", False),
        ((FIRST + SHORT, SHORT + FIRST),
         "~ routes: their order changed; the first that matches wins", True),
    ],
)  # fmt: skip
def test_one_edit_is_one_line(edit: tuple[str, str], line: str, tightens: bool) -> None:
    assert lines(edit) == [(line, tightens)]


@pytest.mark.parametrize(
    ("edit", "tightens"),
    [
        ((f"/a, {MAIN}", "/a, to: orders, require: {issuer: main, scopes: [x]}}"), False),
        ((f"/a, {MAIN}", "/a, to: orders, require: anyone}"), True),
        (("rate: 10/s", "rate: 600/m"), True),
        ((WEB, WEB.replace("web]", "web], listens: {http: 8000}")), True),
    ],
)
def test_taking_an_edit_back_tightens_what_it_had_loosened(
    edit: tuple[str, str], tightens: bool
) -> None:
    [change] = compare(after(edit), BEFORE)
    assert change.tightens == tightens


def test_a_first_system_is_all_gain() -> None:
    changes = compare(None, BEFORE)
    assert {change.sign for change in changes} == {"+"}
    assert "+ channel web -> orders: GET /orders/*" in map(str, changes)
    assert not any(change.tightens for change in changes)


def test_losing_everything_tightens() -> None:
    changes = compare(BEFORE, System("shop.internal"))
    assert {change.sign for change in changes} == {"-"}
    assert all(change.tightens for change in changes)
    assert "- gateway shop.example" in map(str, changes)


def test_moved_lines_are_no_change() -> None:
    assert compare(BEFORE, load_text("# a comment\n\n" + BASE)) == ()


def test_every_change_knows_its_line() -> None:
    [change] = compare(BEFORE, after(("GET /orders/*]", "GET /orders/*, POST /orders]")))
    assert change.at.line == 9


def test_limits_are_shown_with_what_it_takes_to_put_them_in_force() -> None:
    before = Service("orders", run=("./orders",))
    after = replace(before, limits=replace(before.limits, memory_bytes=1 << 29, files=64))
    old, new = (System("shop.internal", {"orders": s}) for s in (before, after))
    (change,) = compare(old, new)
    assert str(change) == (
        "~ service orders: limits memory 1GiB → 512MiB, files 16384 → 64; it is started anew"
    )
    assert change.tightens
    assert not compare(new, old)[0].tightens


def test_a_claim_that_is_true_is_not_one_that_is_1() -> None:
    """Python takes them for equal; what is equal is neither shown nor compiled again."""
    true, one = Claim(("a",), True), Claim(("a",), 1)
    assert true != one
    assert len({true, one, Claim(("a",), True)}) == 2


def test_each_grant_at_a_resource_that_is_lost_or_won_is_named() -> None:
    text = """
trust_domain: shop.internal
services: {orders: {}}
resources: {events: {kind: nats}}
channels: [{from: orders, to: events, %s}]
"""
    before = load_text(text % "publish: [a, b], buckets: {kept: [read, write]}, connections: 4")
    after = load_text(
        text % "publish: [a, c], buckets: {kept: [read]}, connections: 4, reply: true"
    )
    changes = compare(before, after)
    assert [(c.sign, c.what) for c in changes] == [
        ("-", "grant orders -> events: publish b"),
        ("-", "grant orders -> events: buckets kept write"),
        ("+", "grant orders -> events: publish c"),
        ("+", "grant orders -> events: reply true"),
    ]
    assert all(c.tightens for c in changes if c.sign == "-")


def test_a_new_channel_to_a_resource_shows_what_it_grants() -> None:
    more = "  - {from: web, to: orders-db, tables: {orders: [select, insert]}}\ngateway:"
    [(line, _)] = lines(("gateway:", more))
    assert line == ("+ channel web -> orders-db: tables orders select, tables orders insert")


def test_a_program_that_runs_on_without_new_variables_is_named() -> None:
    edit = ("gateway:", "  - {from: web, to: orders-db, tables: {orders: [select]}}\ngateway:")
    awaiting = awaiting_restart(BEFORE, after(edit))
    assert list(awaiting) == ["web"]
    change = awaiting["web"]
    assert change.what.startswith("service web runs on: start its program anew")
    assert "orders-db" in change.what
    assert "`watertight restart web`" in change.what
    assert not awaiting_restart(BEFORE, after())
    assert not awaiting_restart(BEFORE, after(edit, ("[./web]", "[./web2]")))  # anew anyway
    assert not awaiting_restart(None, after(edit))
