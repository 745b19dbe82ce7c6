"""Envoy itself accepts every plan, and ``validate`` passes its refusals on."""

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.dataplane.compile.samples import secrets
from tests.dataplane.compile.systems import ALL, KEYS, PLACEMENT, SHOP, line
from watertight.dataplane import binary
from watertight.dataplane.binary import EnvoyMissing, envoy_binary, envoy_version
from watertight.dataplane.compile import compile_envoy
from watertight.dataplane.resources import ProxyPlan, ResourceType
from watertight.dataplane.validate import PlanRefused, render, validate

SECRETS = secrets()


@pytest.mark.parametrize("which", ALL)
def test_envoy_accepts_every_plan(which: str) -> None:
    for proxy in compile_envoy(ALL[which], PLACEMENT, KEYS).proxies.values():
        validate(proxy, SECRETS)


def spoilt(kind: ResourceType, name: str, spoil: Callable[[dict[str, Any]], None]) -> ProxyPlan:
    """The plan of ``orders`` with one resource changed."""
    plan = compile_envoy(SHOP, PLACEMENT, KEYS).proxies["orders"]
    changed = []
    for resource in plan.resources:
        body = copy.deepcopy(dict(resource.body))
        if (resource.type, resource.name) == (kind, name):
            spoil(body)
        changed.append(replace(resource, body=body))
    return replace(plan, resources=tuple(changed))


def test_an_unknown_field_is_refused() -> None:
    plan = spoilt(ResourceType.CLUSTER, "app", lambda body: body.update(surprise=1))
    with pytest.raises(PlanRefused, match="surprise"):
        validate(plan, SECRETS)


def test_a_refusal_names_the_line_and_shows_no_message() -> None:
    def spoil(body: dict[str, Any]) -> None:
        body["virtual_hosts"][0]["domains"] = []

    plan = spoilt(ResourceType.ROUTE, "in|mailer", spoil)
    with pytest.raises(PlanRefused, match="Domains: value must contain at least 1") as refusal:
        validate(plan, SECRETS)
    assert refusal.value.at == line(11)
    assert "spiffe" not in str(refusal.value)


def test_a_broken_secret_is_not_shown() -> None:
    broken = copy.deepcopy(SECRETS)
    key = broken["default"]["tls_certificate"]["private_key"]
    key["inline_string"] = "hush" + key["inline_string"]
    plan = compile_envoy(SHOP, PLACEMENT, KEYS).proxies["orders"]
    with pytest.raises(PlanRefused) as refusal:
        validate(plan, broken)
    assert "hush" not in str(refusal.value)
    assert "BEGIN" not in str(refusal.value)


def test_a_route_to_no_cluster_is_refused() -> None:
    def spoil(body: dict[str, Any]) -> None:
        body["virtual_hosts"][0]["routes"][-1]["route"]["cluster"] = "somewhere"

    plan = spoilt(ResourceType.ROUTE, "in|mailer", spoil)
    with pytest.raises(PlanRefused, match="somewhere"):
        validate(plan, SECRETS)


def test_the_rendition_needs_no_control_plane() -> None:
    for proxy in compile_envoy(SHOP, PLACEMENT, KEYS).proxies.values():
        body = render(proxy, SECRETS)
        assert "dynamic_resources" not in body
        text = str({**body, "static_resources": {**body["static_resources"], "secrets": []}})
        assert not [word for word in ("'rds'", "config_discovery", "sds_config") if word in text]


def test_the_binary_runs() -> None:
    assert "/1.40." in envoy_version(envoy_binary())


@pytest.mark.parametrize("what", ["/nowhere/envoy", "/bin/false", "/bin/true", "/etc/hostname"])
def test_what_is_no_envoy_is_refused(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(binary.OVERRIDE, what)
    envoy_binary.cache_clear()
    try:
        with pytest.raises(EnvoyMissing, match=what):
            envoy_binary()
    finally:
        envoy_binary.cache_clear()


def test_another_envoy_may_be_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    link = tmp_path / "envoy"
    link.symlink_to(envoy_binary())
    monkeypatch.setenv(binary.OVERRIDE, str(link))
    envoy_binary.cache_clear()
    try:
        assert envoy_binary() == link
    finally:
        envoy_binary.cache_clear()
