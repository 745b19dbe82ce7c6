"""One misspelt word is one finding, and it says which word was meant."""

import pytest

from watertight.enforcers.registry import resource_enforcers, resource_flaws
from watertight.model.findings import DeclarationError, Finding
from watertight.model.lint import lint
from watertight.model.load import load_text

RIGHT = """\
trust_domain: shop.internal
services:
  web: {run: [python, web.py], listens: {http: 80}}
  orders: {run: [python, orders.py], listens: {http: 81}}
resources:
  db: {kind: postgresql, database: orders}
  events: {kind: nats}
channels:
  - {from: web, to: orders, allow: [GET /x]}
  - {from: orders, to: db, tables: {orders: [select]}}
  - {from: orders, to: events, publish: [orders.placed]}
gateway:
  hostname: localhost
  routes:
    - {path: /, to: web, require: anyone, limit: {per: address, rate: 1/s}}
"""


def findings(text: str) -> list[Finding]:
    try:
        system = load_text(text)
    except DeclarationError as error:
        return list(error.findings)
    more = resource_flaws(system)
    return list(lint(system, resource_kinds=resource_enforcers(), more=more))


def test_the_declaration_is_right_to_begin_with() -> None:
    assert findings(RIGHT) == []


@pytest.mark.parametrize(
    ("right", "wrong", "says"),
    [
        ("trust_domain:", "trustdomain:", "Did you mean `trust_domain`?"),
        ("services:", "servces:", "Did you mean `services`?"),
        ("services:", "Services:", "Did you mean `services`?"),
        ("services:", "service:", "Did you mean `services`?"),
        ("services:", "apps:", "There is no key `apps` here"),
        ("resources:", "ressources:", "Did you mean `resources`?"),
        ("channels:", "chanels:", "Did you mean `channels`?"),
        ("channels:", "routes:", "It is a key of `gateway`."),
        ("resources:", "hostname: x\nresources:", "It is a key of `gateway`."),
        ("gateway:", "gatway:", "Did you mean `gateway`?"),
        ("run: [python, web.py]", "run: [x], env: {A: b}", "Did you mean `environment`?"),
        ("run: [python, web.py]", "command: [x]", "Did you mean `run`?"),
        ("  routes:", "  route:", "Did you mean `routes`?"),
        ("listens: {http: 80}", "listen: {http: 80}", "Did you mean `listens`?"),
        ("listens: {http: 80}", "listens: {http:80}", "Write `{http: 80}`."),
        ("listens: {http: 80}", "listens: {HTTP: 80}", "Did you mean `http`?"),
        ("run: [python, web.py]", "run: python web.py", "Write `[python, web.py]`."),
        ("allow: [GET /x]", "allow: GET /x", "Write `[GET /x]`."),
        ("  web: {run", "  Web: {run", "Did you mean `web`?"),
        ("  events: {kind", "  Events: {kind", "Did you mean `events`?"),
        ("{http: 80}", "{http: '80'}", "Write it without quotes."),
        ("kind: nats", "kind: NATS", "Did you mean `nats`?"),
        ("kind: nats", "kind: natz", "Did you mean `nats`?"),
        ("kind: nats", "knd: nats", "Did you mean `kind`?"),
        ("kind: postgresql", "kind: postgres", "Did you mean `postgresql`?"),
        ("kind: postgresql", "kind: pg", "Did you mean `postgresql`?"),
        ("database: orders", "database: orders, prot: 5432", "Did you mean `port`?"),
        ("from: web", "form: web", "Did you mean `from`?"),
        ("to: orders, allow", "too: orders, allow", "Did you mean `to`?"),
        ("allow:", "alow:", "Did you mean `allow`?"),
        ("tables:", "tabels:", "Did you mean `tables`?"),
        ("require:", "requires:", "Did you mean `require`?"),
        ("GET /x", "get /x", "Did you mean `GET`?"),
        ("allow: [GET /x]", 'allow: "*"', 'Write `["*"]`.'),
        ("run: [python, web.py]", "run: serve 80", 'Write `[serve, "80"]`.'),
        ("limit: {per: address, rate: 1/s}", "limit: 5/s", "Write `{per: address, rate: 5/s}`."),
        ("to: orders, allow", "to: order, allow", "Did you mean `orders`?"),
    ],
)
def test_a_misspelt_word_is_one_finding(right: str, wrong: str, says: str) -> None:
    assert right in RIGHT
    [finding] = findings(RIGHT.replace(right, wrong, 1))
    assert says in f"{finding.message} {finding.remedy}"
    line = RIGHT[: RIGHT.index(right)].count("\n") + 1
    assert finding.at.line == line


def test_what_stands_below_a_misspelt_key_is_read_all_the_same() -> None:
    """Its own mistakes are found in the same run."""
    text = RIGHT.replace("services:", "servces:").replace("{http: 80}", "{http: 99999}")
    assert [(f.code, f.at.line) for f in findings(text)] == [("WT-E1101", 2), ("WT-E1111", 3)]


def test_a_key_that_is_there_is_not_replaced_by_one_that_is_like_it() -> None:
    text = RIGHT.replace("channels:", "chanels: []\nchannels:")
    [finding] = findings(text)
    assert "Did you mean `channels`?" in finding.remedy


def test_a_kind_that_nobody_knows_is_said_once_however_many_channels_lead_there() -> None:
    more = "  - {from: web, to: events, publish: [orders.placed]}\ngateway:"
    text = RIGHT.replace("kind: nats", "kind: cassandra").replace("gateway:", more)
    [finding] = findings(text)
    assert (finding.code, finding.at.line) == ("WT-E1211", 7)


@pytest.mark.parametrize(
    ("variable", "secret"),
    [
        ("DB_PASSWORD: x", True),
        ("api_key: x", True),
        ("GITHUB_TOKEN: x", True),
        ("DATABASE_URL: 'postgres://web:hunter2@db/shop'", True),
        ("DB_PASSWORD: ''", False),
        ("DB_PASSWORD_FILE: secrets/db", False),
        ("TOKEN_URL: 'https://login.example/token'", False),
        ("DATABASE_URL: 'postgres://web@db/shop'", False),
        ("COMPASS: x", False),
        ("MONKEY: x", False),
    ],
)
def test_a_secret_in_the_environment_is_warned_of(variable: str, secret: bool) -> None:
    text = RIGHT.replace("{run: [python, web.py]", f"{{environment: {{{variable}}}, run: [x]", 1)
    found = [finding for finding in findings(text) if finding.code == "WT-W1480"]
    assert len(found) == secret
    assert not any("hunter2" in str(finding) for finding in found)


@pytest.mark.parametrize(
    ("service", "found"),
    [
        ("{environment: {A: '${HOME}/x'}, run: [x]", 1),
        ("{environment: {A: '${X:-y}', B: '${Z}'}, run: [x]", 2),
        ("{environment: {A: '$HOME', B: '100$', C: '${', D: '${a.b}', E: '$${'}, run: [x]", 0),
        ("{run: [python, '--port=${PORT}']", 1),
        ("{run: [/bin/sh, -c, 'exec web ${PORT}']", 0),
    ],
)
def test_what_nobody_expands_is_warned_of(service: str, found: int) -> None:
    text = RIGHT.replace("{run: [python, web.py]", service, 1)
    assert [finding.code for finding in findings(text)].count("WT-W1482") == found
