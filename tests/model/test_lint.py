"""Semantic findings about systems, also those that a program built."""

from dataclasses import replace

import pytest

from watertight.model import codes
from watertight.model.findings import Severity
from watertight.model.lint import lint
from watertight.model.load import load_text
from watertight.model.nearest import MAX_CANDIDATES, did_you_mean, one_of
from watertight.model.paths import DataPath, data_path
from watertight.model.starter import STARTER
from watertight.model.system import (
    Channel,
    HTTPGrant,
    Limit,
    Listen,
    Per,
    Protocol,
    Service,
    System,
)
from watertight.model.units import duration_text, rate_text, size_text


def codes_of(text: str, *, resource_kinds: tuple[str, ...] = ()) -> list[str]:
    return [finding.code for finding in lint(load_text(text), resource_kinds=resource_kinds)]


def test_the_starter_is_clean() -> None:
    assert lint(load_text(STARTER)) == ()


DATABASE = """\
trust_domain: a
services: {web: {run: [web]}}
resources: {db: {kind: postgresql}}
channels: [{from: web, to: db}]
"""


def test_a_kind_that_is_not_well_known_needs_a_port() -> None:
    text = DATABASE.replace("postgresql", "cassandra")
    assert codes_of(text, resource_kinds=("cassandra",)) == [codes.NO_PORT]
    mended = text.replace("kind: cassandra", "kind: cassandra, port: 9142")
    assert codes_of(mended, resource_kinds=("cassandra",)) == []


def test_a_resource_needs_an_enforcer_of_its_kind() -> None:
    assert codes_of(DATABASE, resource_kinds=("postgresql",)) == []
    [finding] = lint(load_text(DATABASE), resource_kinds=("postgres",))
    assert (finding.code, finding.severity) == (codes.NO_ENFORCER, Severity.ERROR)
    assert finding.remedy == "Did you mean `postgres`?"
    assert finding.where == "resources.db.kind"


def test_what_a_program_built_wrongly_is_found_as_well() -> None:
    web = Service("web", run=("web",), listens=Listen(Protocol.TCP, 1))
    channels = (
        Channel("web", "nowhere"),
        Channel("web", "web"),
        Channel("gateway", "web", grants=(HTTPGrant("GET", "/"),), retries=1),
    )
    found = lint(System("a", {"web": web}, channels=channels))
    assert sorted(finding.code for finding in found) == [
        codes.RESERVED_NAME,
        codes.UNDECLARED,
        codes.CHANNEL_TO_SELF,
        codes.GRANT_NOT_ENFORCEABLE,
        codes.NOT_FOR_BYTES,
    ]


def grants(*texts: str) -> str:
    return (
        "trust_domain: a\nservices: {web: {run: [web]}, orders: {run: [o], listens: {http: 1}}}\n"
        f"channels: [{{from: web, to: orders, allow: [{', '.join(texts)}]}}]\n"
    )


@pytest.mark.parametrize(
    ("texts", "where"),
    [
        (("GET /a/*", "GET /a/b"), ["channels[0].allow[1]"]),
        (("GET /a/b", "GET /a/*"), ["channels[0].allow[0]"]),
        (('"GET /a/{x}"', "GET /a/*"), ["channels[0].allow[0]"]),
        (("GET /a/**", "GET /a/b/c", "GET /a/*"), ["channels[0].allow[1]", "channels[0].allow[2]"]),
        (("GET /a/**", "GET /a/"), []),
        (("GET /a/*", "POST /a/b"), []),
        (("GET /a/*", "GET /*/b"), []),
    ],
)
def test_superfluous_grants(texts: tuple[str, ...], where: list[str]) -> None:
    found = lint(load_text(grants(*texts)))
    assert sorted(f.where for f in found if f.code == codes.COVERED_GRANT) == where


def test_findings_stand_in_order_and_know_their_line() -> None:
    text = (
        "trust_domain: a\nservices:\n  b: {}\n  c: {run: [c]}\n"
        "gateway:\n  hostname: a\n  routes: []\n"
    )
    assert [(f.at.line, f.code) for f in lint(load_text(text))] == [
        (3, codes.LONELY_SERVICE),
        (3, codes.NOTHING_TO_RUN),
        (4, codes.LONELY_SERVICE),
        (5, codes.NO_ROUTES),
    ]


@pytest.mark.parametrize(
    ("protocol", "expected"),
    [
        (Protocol.HTTP, DataPath.HTTP),
        (Protocol.GRPC, DataPath.GRPC),
        (Protocol.TCP, DataPath.TCP),
    ],
)
def test_what_a_callee_speaks_decides_the_data_path(protocol: Protocol, expected: DataPath) -> None:
    callee = Service("b", listens=Listen(protocol, 1))
    channel = Channel("a", "b", timeout_seconds=1.0, retries=1)
    system = System("a", {"a": Service("a"), "b": callee}, channels=(channel,))
    assert data_path(system, channel) is expected
    assert data_path(system, replace(channel, timeout_seconds=None, retries=0)) is expected


def test_a_channel_to_a_resource_is_native() -> None:
    system = load_text(DATABASE)
    assert data_path(system, system.channels[0]) is DataPath.NATIVE


def test_units_read_as_they_are_written() -> None:
    assert [duration_text(s) for s in (2.0, 0.5, 60.0, 0.001)] == ["2s", "500ms", "60s", "1ms"]
    assert [size_text(b) for b in (1 << 20, 1 << 30, 3 << 10, 1000)] == [
        "1MiB",
        "1GiB",
        "3KiB",
        "1000B",
    ]
    assert [rate_text(Limit(Per.SUBJECT, 5, w)) for w in (1, 60, 3600, 7)] == [
        "5/s",
        "5/m",
        "5/h",
        "5/7s",
    ]


def test_suggestions_are_near_and_their_search_is_bounded() -> None:
    assert did_you_mean("orders_db", ["orders-db", "orders"]) == "Did you mean `orders-db`?"
    assert did_you_mean("mailer", ["orders"]) == ""
    many = [f"service-{number:05}" for number in range(MAX_CANDIDATES * 20)]
    assert did_you_mean("service-00001x", many) == "Did you mean `service-00001`?"
    assert one_of(["a", "b"]) == "`a`, `b`"
    assert one_of(["a"] * 20).endswith(" …")
