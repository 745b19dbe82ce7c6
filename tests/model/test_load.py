"""What loads, at which line, and how several mistakes of one file are told apart."""

import time

import pytest

from watertight.model import codes
from watertight.model.findings import DeclarationError, Finding
from watertight.model.lint import lint
from watertight.model.load import load_text
from watertight.model.system import (
    Channel,
    Cors,
    Gateway,
    HTTPGrant,
    Issuer,
    Limit,
    Listen,
    Per,
    Position,
    Protocol,
    Requirement,
    Resource,
    Route,
    RPCGrant,
    Service,
    System,
)

FULL = """\
trust_domain: shop.internal
services:
  storefront:
    run: [python, -m, uvicorn, "storefront:app", --port, 8000, --debug, false]
    directory: storefront
    environment: {MODE: no, WORKERS: 4}
    image: shop/storefront:1.4
    listens: {http: 8000}
    ready: /healthz
    contract: contracts/storefront.yaml
  catalogue: {run: [./catalogue], listens: {grpc: 8001}}
  legacy: {run: [./legacy], listens: {tcp: 8001}}
resources:
  orders-db: {kind: postgresql, database: orders}
channels:
  - from: storefront
    to: catalogue
    allow: [shop.Catalogue/Get, shop.Stock/*]
    timeout: 500ms
    retries: 2
  - {from: catalogue, to: storefront, allow: [GET /a/*]}
  - {from: storefront, to: legacy}
  - {from: storefront, to: orders-db, tables: {orders: [select]}}
gateway:
  hostname: shop.example
  listen: "[::1]:443"
  certificate: /etc/tls/chain.pem
  private_key: tls/key.pem
  max_request_size: 2MiB
  issuers:
    main: {issuer: "https://login.shop.example", audiences: [shop], jwks: jwks.json}
  routes:
    - path: /api/{id}
      methods: [GET, POST]
      to: storefront
      rewrite: /a/{id}
      require: {issuer: main, scopes: ["orders:read"]}
      limit: {per: subject, rate: 100/m}
      timeout: 5s
      cors:
        origins: ["https://app.example"]
        headers: [X-CSRF-Token]
        expose: []
        credentials: true
        max_age: 1h
    - {path: /, to: storefront, require: anyone}
"""


def at(line: int, column: int) -> Position:
    return Position("watertight.yaml", line, column)


def refused(text: str) -> tuple[Finding, ...]:
    with pytest.raises(DeclarationError) as caught:
        load_text(text)
    return caught.value.findings


def test_everything_that_a_declaration_can_say() -> None:
    assert load_text(FULL) == System(
        trust_domain="shop.internal",
        services={
            "storefront": Service(
                name="storefront",
                run=(
                    *("python", "-m", "uvicorn", "storefront:app"),
                    *("--port", "8000", "--debug", "false"),
                ),
                image="shop/storefront:1.4",
                listens=Listen(Protocol.HTTP, 8000),
                environment={"MODE": "no", "WORKERS": "4"},
                directory="storefront",
                ready="/healthz",
                contract="contracts/storefront.yaml",
                at=at(3, 3),
            ),
            "catalogue": Service(
                name="catalogue",
                run=("./catalogue",),
                listens=Listen(Protocol.GRPC, 8001),
                at=at(11, 3),
            ),
            "legacy": Service(
                name="legacy", run=("./legacy",), listens=Listen(Protocol.TCP, 8001), at=at(12, 3)
            ),
        },
        resources={
            "orders-db": Resource(
                "orders-db", "postgresql", 5432, options={"database": "orders"}, at=at(14, 3)
            )
        },
        channels=(
            Channel(
                "storefront",
                "catalogue",
                (RPCGrant("shop.Catalogue", "Get"), RPCGrant("shop.Stock", "*")),
                timeout_seconds=0.5,
                retries=2,
                at=at(16, 5),
            ),
            Channel("catalogue", "storefront", (HTTPGrant("GET", "/a/*"),), at=at(21, 5)),
            Channel("storefront", "legacy", at=at(22, 5)),
            Channel(
                "storefront", "orders-db", options={"tables": {"orders": ["select"]}}, at=at(23, 5)
            ),
        ),
        gateway=Gateway(
            hostname="shop.example",
            address="::1",
            port=443,
            certificate="/etc/tls/chain.pem",
            private_key="tls/key.pem",
            max_request_bytes=2 * 1024 * 1024,
            issuers={
                "main": Issuer(
                    "main", "https://login.shop.example", ("shop",), "jwks.json", at(31, 5)
                )
            },
            routes=(
                Route(
                    path="/api/{id}",
                    target="storefront",
                    methods=("GET", "POST"),
                    rewrite="/a/{id}",
                    require=Requirement("main", ("orders:read",)),
                    limit=Limit(Per.SUBJECT, 100, 60),
                    timeout_seconds=5.0,
                    cors=Cors(("https://app.example",), ("x-csrf-token",), (), True, 3600.0),
                    at=at(33, 7),
                ),
                Route(path="/", target="storefront", at=at(46, 7)),
            ),
            at=at(24, 1),
        ),
        file="watertight.yaml",
    )


def test_the_smallest_declaration() -> None:
    assert load_text("trust_domain: a") == System("a", file="watertight.yaml")


@pytest.mark.parametrize("key", ["services", "resources", "channels"])
def test_empty_parts_allow_nothing_and_load(key: str) -> None:
    assert load_text(f"trust_domain: a\n{key}:\n") == System("a", file="watertight.yaml")


@pytest.mark.parametrize("key", ["allow", "timeout", "retries"])
def test_a_key_without_a_value_never_loosens_a_channel(key: str) -> None:
    [finding] = refused(
        "trust_domain: a\nservices: {b: {}, c: {listens: {http: 1}}}\n"
        f"channels: [{{from: b, to: c, {key}: }}]\n"
    )
    assert (finding.code, finding.where) == (codes.WRONG_TYPE, f"channels[0].{key}")


MANY = """\
trust_domain: Shop
servces: {}
services:
  storefront:
    run: []
    listens: {htp: 8000}
    enviroment: {A: 1}
  orders: {run: [./orders], listens: {http: 99999}}
  catalogue: {run: [./catalogue], listens: {grpc: 8000}, ready: /x}
channels:
  - {from: storefront, to: oders, allow: [GET /orders/*]}
  - {from: storefront, to: catalogue, allow: [get /x, GET /x], timout: 1s}
  - {from: storefront, to: orders, allow: [GET /x, shop.Orders/*]}
  - {from: catalogue, to: catalogue}
gateway:
  routes:
    - {path: /a, to: orders, require: {issuer: 5, scope: []}, limit: {rate: 1, pr: subject}}
    - {path: /a, to: catalogue, require: nobody}
    - {path: /b, to: catalogue, require: {issuer: main}}
"""


def test_all_mistakes_of_a_file_are_told_at_once_and_each_once() -> None:
    found = [(f.at.line, f.at.column, f.code, f.where) for f in refused(MANY)]
    assert found == [
        (1, 15, codes.BAD_TRUST_DOMAIN, "trust_domain"),
        (2, 1, codes.UNKNOWN_KEY, "servces"),
        (5, 5, codes.OUT_OF_RANGE, "services.storefront.run"),
        (6, 15, codes.BAD_LISTENS, "services.storefront.listens.htp"),
        (7, 5, codes.UNKNOWN_KEY, "services.storefront.enviroment"),
        (8, 45, codes.BAD_PORT, "services.orders.listens.http"),
        (9, 58, codes.READY_NEEDS_HTTP, "services.catalogue.ready"),
        (11, 28, codes.UNDECLARED, "channels[0].to"),
        (12, 47, codes.BAD_METHOD, "channels[1].allow[0]"),
        (12, 64, codes.UNKNOWN_KEY, "channels[1].timout"),
        (14, 27, codes.CHANNEL_TO_SELF, "channels[3].to"),
        (15, 1, codes.MISSING_KEY, "gateway"),
        (17, 48, codes.BAD_NAME, "gateway.routes[0].require.issuer"),
        (17, 51, codes.UNKNOWN_KEY, "gateway.routes[0].require.scope"),
        (17, 63, codes.MISSING_KEY, "gateway.routes[0].limit"),
        (17, 77, codes.BAD_RATE, "gateway.routes[0].limit.rate"),
        (17, 80, codes.UNKNOWN_KEY, "gateway.routes[0].limit.pr"),
        (18, 42, codes.BAD_REQUIRE, "gateway.routes[1].require"),
        (19, 51, codes.UNKNOWN_ISSUER, "gateway.routes[2].require.issuer"),
    ]


def test_a_near_miss_of_a_broken_name_is_still_suggested() -> None:
    [oders] = [f for f in refused(MANY) if f.code == codes.UNDECLARED]
    assert oders.remedy == "Did you mean `orders`?"


def test_the_error_shows_every_finding_on_a_line_of_its_own() -> None:
    with pytest.raises(DeclarationError) as caught:
        load_text("trust_domain: a\nservices: {b: 1, c: 2}\n", "deploy/shop.yaml")
    assert str(caught.value) == (
        "deploy/shop.yaml:2:15: WT-E1103: `services.b` should be a mapping; it is `1`.\n"
        "deploy/shop.yaml:2:21: WT-E1103: `services.c` should be a mapping; it is `2`."
    )


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ("0s", codes.BAD_DURATION),
        ("61m", codes.BAD_DURATION),
        ("-1s", codes.BAD_DURATION),
        ("1.5s", codes.BAD_DURATION),
        ("٣s", codes.BAD_DURATION),
        ("2 s", codes.BAD_DURATION),
    ],
)
def test_timeouts(value: str, code: str) -> None:
    [finding] = refused(
        "trust_domain: a\nservices: {b: {}, c: {listens: {http: 1}}}\n"
        f"channels: [{{from: b, to: c, timeout: {value}}}]\n"
    )
    assert finding.code == code


@pytest.mark.parametrize(
    "value",
    [
        "0.0.0.0",
        "localhost:1",
        "[127.0.0.1]:1",
        "::1:1",
        "1.1.1.1:0",
        "1.1.1.1:65536",
        "[fe80::1%eth0]:1",
    ],
)
def test_addresses(value: str) -> None:
    [finding] = refused(f'trust_domain: a\ngateway: {{hostname: a, listen: "{value}"}}\n')
    assert finding.code == codes.BAD_ADDRESS


@pytest.mark.parametrize(
    "value", ["Shop", "-a", "a_b", "a..b", "10.0.0.1", "*.a", "a" * 64, "a:1", "ä"]
)
def test_hostnames(value: str) -> None:
    [finding] = refused(f'trust_domain: a\ngateway: {{hostname: "{value}"}}\n')
    assert finding.code == codes.BAD_HOSTNAME


@pytest.mark.parametrize(
    "value",
    [
        "http://a/b",
        "https://",
        "https://u:p@a/b",
        "https://a/b#c",
        "https://a:0/",
        "https://[",
        "https://a/ b",
        "file:///etc/passwd",
    ],
)
def test_key_sets(value: str) -> None:
    [finding] = refused(
        "trust_domain: a\ngateway: {hostname: a, issuers: "
        f'{{main: {{issuer: x, audiences: [a], jwks: "{value}"}}}}}}\n'
    )
    assert finding.code == codes.BAD_URL


@pytest.mark.parametrize("value", ["spiffe://a", "A", "a..b", ".a", "a.", "a/b", "a" * 65, "ä"])
def test_trust_domains(value: str) -> None:
    assert [f.code for f in refused(f"trust_domain: {value}")] == [codes.BAD_TRUST_DOMAIN]


@pytest.mark.parametrize("name", ["A", "1a", "a-", "a_b", "a.b", "a" * 64, "ä", ""])
def test_names(name: str) -> None:
    [finding] = refused(f'trust_domain: a\nservices: {{"{name}": {{}}}}\n')
    assert finding.code == codes.BAD_NAME


@pytest.mark.parametrize(
    "text",
    [
        "trust_domain:\n",
        "trust_domain: a\ngateway:\n",
        "trust_domain: a\ngateway: {hostname: }\n",
        (
            "trust_domain: a\nservices: {b: {listens: {http: 1}}}\n"
            "gateway: {hostname: a, routes: [{path: /, to: b, require: }]}\n"
        ),
        "trust_domain: a\nservices: {b: {run: }}\n",
    ],
)
def test_a_key_without_a_value_is_one_finding(text: str) -> None:
    [finding] = refused(text)
    assert finding.code == codes.WRONG_TYPE
    assert "has no value" in finding.message


@pytest.mark.parametrize("name", ["gateway", "outside", "anyone"])
@pytest.mark.parametrize("declared", ["services: {%s: {}}", "resources: {%s: {kind: x}}"])
def test_reserved_names(name: str, declared: str) -> None:
    [finding] = refused(f"trust_domain: a\n{declared % name}\n")
    assert finding.code == codes.RESERVED_NAME


def test_an_alias_is_named_where_it_stands() -> None:
    findings = refused(
        "trust_domain: a\nservices: {b: {}, c: {listens: {http: 1}}}\n"
        "channels:\n  - &x {from: b, to: c}\n  - *x\n"
    )
    assert [(f.code, f.at.line) for f in findings] == [(codes.DUPLICATE_CHANNEL, 5)]


def test_numbers_in_paths_are_those_of_the_document() -> None:
    findings = refused(
        "trust_domain: a\nservices: {b: {}}\nchannels:\n  - 5\n  - {from: b, to: nowhere}\n"
    )
    assert [f.where for f in findings] == ["channels[0]", "channels[1].to"]


def big(services: int, *, target: str = "svc") -> str:
    lines = "".join(
        f"  svc-{n}:\n    run: [python, -m, app]\n    listens: {{http: 8000}}\n"
        for n in range(services)
    )
    channels = "".join(
        f"  - {{from: svc-{n}, to: {target}-{(n + 1) % services}, allow: [GET /a/*, POST /b]}}\n"
        for n in range(services)
    )
    return f"trust_domain: shop.internal\nservices:\n{lines}channels:\n{channels}"


def test_ten_thousand_services_load_in_seconds() -> None:
    started = time.process_time()
    assert len(load_text(big(10_000)).channels) == 10_000
    assert time.process_time() - started < 30  # measured: 4 s on one busy core


def test_ten_thousand_mistakes_are_refused_in_seconds() -> None:
    started = time.process_time()
    assert refused(big(10_000, target="svd"))[-1].code == codes.TOO_MANY_FINDINGS
    assert time.process_time() - started < 60  # measured: 7 s on one busy core


def test_thousands_of_routes_and_grants_are_judged_in_seconds() -> None:
    numbers = range(3000)
    routes = "".join(
        f"    - {{path: /api/x{n}/*, to: svc-0, require: {{issuer: main}}}}\n" for n in numbers
    )
    grants = "".join(f"    - GET /api/x{n}/*\n" for n in numbers)
    text = (
        f"{big(2)}  - from: svc-2\n    to: svc-0\n    allow:\n{grants}"
        "gateway:\n  hostname: shop.example\n"
        "  issuers: {main: {issuer: x, audiences: [a], jwks: jwks.json}}\n"
        f"  routes:\n{routes}"
    ).replace("services:\n", "services:\n  svc-2: {run: [x]}\n")
    started = time.process_time()
    assert lint(load_text(text)) == ()
    assert time.process_time() - started < 20  # measured: 1 s; comparing all pairs took 200 s


@pytest.mark.parametrize(
    ("path", "rewrite", "good"),
    [
        ("/a/*", "/b/*", True),
        ("/a/{id}", "/b/*", True),
        ("/a/{x}/{y}", "/{x}/b/{y}", True),
        ("/a/*/**", "/b/*/**", True),
        ("/a", "/b", True),
        ("/a/{x}/{y}", "/b/{y}/{x}", False),  # wildcards are taken up in order, names or not
        ("/a/{x}", "/b/{y}", False),
        ("/a/*", "/b/**", False),
        ("/a/**", "/b/*", False),
        ("/a/**", "/b", False),
        ("/a", "/b/*", False),
    ],
)
def test_rewrites_take_up_the_same_wildcards(path: str, rewrite: str, good: bool) -> None:
    text = (
        "trust_domain: a\nservices: {b: {listens: {http: 1}}}\ngateway:\n  hostname: a\n  routes:\n"
        f'    - {{path: "{path}", rewrite: "{rewrite}", to: b, require: anyone}}\n'
    )
    if good:
        assert load_text(text).routes_to("b")[0].target_path == rewrite
    else:
        assert [f.code for f in refused(text)] == [codes.REWRITE_MISMATCH]
