"""What a declaration of a database may say, and how it is told what it may not."""

import pytest

from tests.servers.postgresql.shop import SHOP
from watertight.model import codes
from watertight.model.findings import Severity
from watertight.model.load import load_text
from watertight.model.rules import Flaw
from watertight.model.system import Channel, System
from watertight.servers.postgresql.check import check
from watertight.servers.postgresql.declaration import (
    Grant,
    Kind,
    Target,
)
from watertight.servers.postgresql.uses import granted
from watertight.servers.postgresql.weaknesses import weaknesses

FRAME = """
trust_domain: shop.internal
services: {{orders: {{}}}}
resources: {{db: {{kind: postgresql{resource}}}}}
channels: [{{from: orders, to: db{channel}}}]
"""


def flaws(
    resource: str = ", database: orders", channel: str = ", tables: {a: [select]}"
) -> list[Flaw]:
    system = load_text(FRAME.format(resource=resource, channel=channel))
    return list(check(system, system.resources["db"]))


def test_the_shop_is_right() -> None:
    system = load_text(SHOP.replace("{port}", "5432"))
    assert list(check(system, system.resources["orders-db"])) == []


def test_a_grant_brings_along_the_use_of_its_schema() -> None:
    channel = Channel(
        "orders",
        "db",
        options={"tables": {"sales.totals": ["select"], "users": {"update": ["name"]}}},
    )
    assert set(granted(channel)) == {
        Grant(Target(Kind.TABLE, "sales", "totals"), "select"),
        Grant(Target(Kind.TABLE, "public", "users"), "update", "name"),
        Grant(Target(Kind.SCHEMA, "sales"), "usage"),
        Grant(Target(Kind.SCHEMA, "public"), "usage"),
    }


@pytest.mark.parametrize(
    ("resource", "code", "path", "said"),
    [
        ("", codes.MISSING_KEY, ("resources", "db"), "`database` is missing"),
        (", database: 3", codes.RESOURCE_NAME, ("resources", "db", "database"), "not a name"),
        (", database: postgres", codes.RESOURCE_NAME, ("resources", "db", "database"), "has one"),
        (
            f", database: {'x' * 64}",
            codes.RESOURCE_NAME,
            ("resources", "db", "database"),
            "64 bytes",
        ),
        (", database: ü", codes.RESOURCE_NAME, ("resources", "db", "database"), "ASCII"),
        (', database: "a\\"b"', codes.RESOURCE_NAME, ("resources", "db", "database"), "not a name"),
        (", database: a, schema: /etc/x", codes.BAD_PATH, ("resources", "db", "schema"), "inside"),
        (", database: a, shema: x", codes.UNKNOWN_KEY, ("resources", "db", "shema"), "no key"),
        (
            ", database: a, extensions: ['x y']",
            codes.RESOURCE_NAME,
            ("resources", "db", "extensions", 0),
            "not the name of an extension",
        ),
    ],
)
def test_a_resource_that_is_wrong(
    resource: str, code: str, path: tuple[str | int, ...], said: str
) -> None:
    (flaw,) = flaws(resource=resource)
    assert (flaw.code, flaw.path) == (code, path)
    assert said in flaw.message


@pytest.mark.parametrize(
    ("channel", "code", "path", "said"),
    [
        (
            "tables: {a: [selct]}",
            codes.RESOURCE_GRANT,
            ("tables", "a", 0),
            "Did you mean `select`?",
        ),
        (
            "tables: {a: [SELECT]}",
            codes.RESOURCE_GRANT,
            ("tables", "a", 0),
            "Did you mean `select`?",
        ),
        ("tables: {a: [all]}", codes.RESOURCE_GRANT, ("tables", "a", 0), "Name each privilege"),
        ("tables: {a: [trigger]}", codes.RESOURCE_GRANT, ("tables", "a", 0), ""),
        ("tables: {a: []}", codes.RESOURCE_GRANT, ("tables", "a"), ""),
        ("tables: {a: select}", codes.RESOURCE_GRANT, ("tables", "a"), ""),
        ("tables: {a: [select, select]}", codes.RESOURCE_GRANT, ("tables", "a", 1), ""),
        ("tables: {a: {delete: [x]}}", codes.RESOURCE_GRANT, ("tables", "a", "delete"), "whole"),
        ("tables: {a: {select: []}}", codes.RESOURCE_GRANT, ("tables", "a", "select"), ""),
        ("tables: {a: {select: [b, b]}}", codes.RESOURCE_GRANT, ("tables", "a", "select", 1), ""),
        ("tables: {a: {select: ['b c']}}", codes.RESOURCE_NAME, ("tables", "a", "select", 0), ""),
        ("tables: {'a b': [select]}", codes.RESOURCE_NAME, ("tables", "a b"), ""),
        (
            "tables: {pg_catalog.pg_authid: [select]}",
            codes.RESOURCE_NAME,
            ("tables", "pg_catalog.pg_authid"),
            "",
        ),
        (
            "tables: {a: [select], public.a: [insert]}",
            codes.RESOURCE_GRANT,
            ("tables", "public.a"),
            "",
        ),
        ("sequences: {a: [insert]}", codes.RESOURCE_GRANT, ("sequences", "a", 0), ""),
        ("schemas: {watertight: [usage]}", codes.RESOURCE_NAME, ("schemas", "watertight"), ""),
        ("schemas: {a: [creat]}", codes.RESOURCE_GRANT, ("schemas", "a", 0), "`create`"),
        ("functions: {a: [call]}", codes.RESOURCE_GRANT, ("functions", "a", 0), ""),
        ("topics: [a]", codes.UNKNOWN_KEY, ("topics",), ""),
    ],
)
def test_a_channel_that_is_wrong(
    channel: str, code: str, path: tuple[str | int, ...], said: str
) -> None:
    (flaw,) = flaws(channel=f", {channel}")
    assert (flaw.code, flaw.path) == (code, ("channels", 0, *path))
    assert said in flaw.remedy


def test_a_channel_that_grants_nothing_is_pointed_out() -> None:
    (flaw,) = flaws(channel="")
    assert (flaw.code, flaw.severity) == (codes.GRANTS_NOTHING, Severity.WARNING)


@pytest.mark.parametrize("name", ["public", "none", "pg_monitor", "x" * 64])
def test_a_service_whose_name_no_role_can_have(name: str) -> None:
    system = load_text(SHOP.replace("{port}", "5432"))
    channel = Channel(name, "orders-db", options={"tables": {"orders": ["select"]}})
    wrong = System("shop.internal", system.services, system.resources, (channel,))
    (flaw,) = check(wrong, system.resources["orders-db"])
    assert (flaw.code, flaw.path) == (codes.RESOURCE_NAME, ("channels", 0, "from"))


@pytest.mark.parametrize(
    ("resource", "code"),
    [
        (", schema: a.sql", codes.MAKES_WHERE_OWNER_LOOKS),
        (", extensions: [citext]", codes.MAKES_WHERE_OWNER_LOOKS),
        (", schema: a.sql, external: db.example", None),
        ("", None),
    ],
)
def test_nobody_makes_things_where_the_operators_own_sql_looks(
    resource: str, code: str | None
) -> None:
    resource = f", database: orders{resource}"
    found = flaws(resource, ", schemas: {public: [create]}")
    assert [f.code for f in found] == ([] if code is None else [code])
    assert all(f.path[-2:] == ("schemas", "public") for f in found)
    assert flaws(resource, ", schemas: {stock: [create]}") == []


def test_foreign_keys_at_a_server_of_others_are_a_finding_of_the_proof() -> None:
    where = ", database: orders, external: db.example"
    keys = ", schemas: {own: [create]}, tables: {a: {references: [id]}}"
    for resource, channel, found in (
        (where, keys, [codes.KEY_BY_OTHERS]),
        (", database: orders", keys, []),
        (where, ", schemas: {own: [create]}", []),
    ):
        system = load_text(FRAME.format(resource=resource, channel=channel))
        assert [finding.code for finding in weaknesses(system)] == found
