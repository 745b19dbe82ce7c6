"""Applying a plan: in force everywhere when it returns, or as it was before."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from tests.mesh import Mesh, running_mesh
from watertight.dataplane.apply import Deployment
from watertight.dataplane.resources import EnvoyPlan, Resource, ResourceType
from watertight.dataplane.xds.encode import Unencodable
from watertight.dataplane.xds.verdicts import ResourceRefused
from watertight.model.system import (
    Channel,
    HTTPGrant,
    Listen,
    Position,
    Protocol,
    Service,
    System,
)

GET = HTTPGrant("GET", "/orders/*")
HERE = Position("watertight.yaml", 7, 3)


def system(*grants: HTTPGrant) -> System:
    return System(
        "shop.test",
        {
            "storefront": Service("storefront"),
            "mailer": Service("mailer"),
            "orders": Service("orders", listens=Listen(Protocol.HTTP, 8081)),
        },
        channels=(
            Channel("storefront", "orders", grants, at=HERE),
            Channel("mailer", "orders", at=HERE),
        ),
    )


@pytest.fixture
async def mesh() -> AsyncIterator[Mesh]:
    async with running_mesh(system(GET)) as running:
        yield running


@pytest.fixture
async def deployment(mesh: Mesh) -> Deployment:
    deployed = Deployment(mesh.xds)
    await deployed.apply(mesh.plan)
    return deployed


def with_grants(mesh: Mesh, *grants: HTTPGrant) -> EnvoyPlan:
    """The plan for the mesh's system with other grants for the storefront."""
    channels = tuple(
        replace(c, grants=grants) if c.source == "storefront" else c for c in mesh.system.channels
    )
    return mesh.compile(replace(mesh.system, channels=channels))


async def test_it_returns_once_the_change_is_in_force(mesh: Mesh, deployment: Deployment) -> None:
    assert (await mesh.request("storefront", "orders", "POST", "/orders")).status_code == 403
    applied = await deployment.apply(with_grants(mesh, GET, HTTPGrant("POST", "/orders")))
    assert applied.changed == ("orders",)
    assert (await mesh.request("storefront", "orders", "POST", "/orders")).status_code == 200


async def test_applying_twice_changes_nothing(mesh: Mesh, deployment: Deployment) -> None:
    first = await deployment.apply(mesh.plan)
    second = await deployment.apply(mesh.plan)
    assert second.changed == ()
    assert second.versions == first.versions


async def test_a_refusal_names_the_line_and_leaves_all_as_it_was(
    mesh: Mesh, deployment: Deployment
) -> None:
    """One proxy refuses, and what the others had accepted already is taken back."""
    before = deployment.versions()
    better = with_grants(mesh, GET, HTTPGrant("POST", "/orders"))
    bad = Resource(ResourceType.CLUSTER, "bad", {"name": "bad", "connect_timeout": "-1s"}, HERE)
    mailer = better.proxies["mailer"]
    worse = EnvoyPlan(
        {**better.proxies, "mailer": replace(mailer, resources=(*mailer.resources, bad))}
    )
    with pytest.raises(ResourceRefused, match=r"watertight\.yaml:7:3"):
        await deployment.apply(worse)
    assert deployment.versions() == before
    assert (await mesh.request("storefront", "orders", "POST", "/orders")).status_code == 403
    assert (await mesh.request("storefront", "orders", "GET", "/orders/1")).status_code == 200


async def test_what_cannot_be_sent_to_one_proxy_is_taken_back_from_the_others(
    mesh: Mesh, deployment: Deployment
) -> None:
    better = with_grants(mesh, GET, HTTPGrant("POST", "/orders"))
    bad = Resource(ResourceType.CLUSTER, "bad", {"name": "bad", "no_such_field": 1}, HERE)
    proxies = dict(better.proxies)
    mailer = proxies.pop("mailer")  # the last one: the others have theirs by then
    proxies["mailer"] = replace(mailer, resources=(*mailer.resources, bad))
    with pytest.raises(Unencodable, match=r"watertight\.yaml:7:3"):
        await deployment.apply(EnvoyPlan(proxies))
    assert (await mesh.request("storefront", "orders", "POST", "/orders")).status_code == 403
