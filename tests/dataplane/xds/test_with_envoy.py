"""The xDS server against the client that matters: a real Envoy in a running mesh."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx
import pytest

from tests.mesh import Mesh, running_mesh, until
from watertight.dataplane.resources import EnvoyPlan, Resource, ResourceType
from watertight.dataplane.xds import Ledger, ProxySilent, ResourceRefused, State, XDSServer
from watertight.dataplane.xds.events import Command, Send
from watertight.identity.sds import secrets
from watertight.model.system import Channel, HTTPGrant, Listen, Position, Protocol, Service, System

READ = HTTPGrant("GET", "/orders/*")
WRITE = HTTPGrant("POST", "/orders")
STOREFRONT = Channel("storefront", "orders", (READ,), at=Position("watertight.yaml", 12, 5))
MAILER = Channel("mailer", "orders", (READ,), at=Position("watertight.yaml", 13, 5))
SHOP = System(
    "shop.internal",
    {
        "storefront": Service("storefront"),
        "mailer": Service("mailer"),
        "orders": Service("orders", listens=Listen(Protocol.HTTP, 1)),
    },
    channels=(STOREFRONT, MAILER),
)


class Recording(Ledger):
    """A ledger that also remembers every response."""

    def __init__(self) -> None:
        super().__init__()
        self.sends: list[tuple[str, Send]] = []

    def record(self, workload: str, command: Command) -> None:
        if isinstance(command, Send):
            self.sends.append((workload, command))
        super().record(workload, command)


def changed(
    plan: EnvoyPlan, workload: str, name: str, change: Callable[[Any], None], type_: ResourceType
) -> EnvoyPlan:
    """A plan in which one resource of one proxy is another."""

    def one(resource: Resource) -> Resource:
        if (resource.type, resource.name) != (type_, name):
            return resource
        body = json.loads(json.dumps(resource.body))
        change(body)
        return replace(resource, body=body)

    proxy = plan.proxies[workload]
    other = replace(proxy, resources=tuple(one(r) for r in proxy.resources))
    assert other != proxy
    return EnvoyPlan({**plan.proxies, workload: other})


def address_in(plan: EnvoyPlan, caller: str) -> tuple[str, int]:
    """Where that caller's proxy awaits requests to orders."""
    resource = next(r for r in plan.proxies[caller].resources if r.type is ResourceType.LISTENER)
    address = resource.body["address"]["socket_address"]
    return address["address"], address["port_value"]


def bound(squatter: socket.socket, address: tuple[str, int]) -> bool:
    """Whether it could be; a proxy says that it has removed a listener before each of its threads
    has closed it."""
    with contextlib.suppress(OSError):
        squatter.bind(address)
        return True
    return False


@asynccontextmanager
async def kept_alive(mesh: Mesh, caller: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client that has one connection to orders, and must not need a second one."""
    host, port = mesh.address(caller, "orders")
    limits = httpx.Limits(max_connections=1)
    base = f"http://{host}:{port}"
    # More than a request waits for an app that is not there (docs/adr/0034).
    async with httpx.AsyncClient(base_url=base, limits=limits, timeout=30.0) as client:
        yield client


@asynccontextmanager
async def steady_traffic(mesh: Mesh) -> AsyncIterator[list[int]]:
    """One request after the other while the block runs; yields their statuses (0: lost)."""
    statuses: list[int] = []
    over = asyncio.Event()

    async def load() -> None:
        async with kept_alive(mesh, "storefront") as client:
            while not over.is_set():
                try:
                    statuses.append((await client.get("/orders/1")).status_code)
                except httpx.HTTPError:
                    statuses.append(0)

    async with asyncio.TaskGroup() as group:
        group.create_task(load())
        try:
            yield statuses
        finally:
            over.set()


async def some_more(statuses: list[int]) -> None:
    """Returns once twenty more requests have ended."""
    enough = len(statuses) + 20
    await until(lambda: len(statuses) >= enough)


async def connections(mesh: Mesh, caller: str) -> int:
    """How many connections that caller's proxy has made to orders' door so far."""
    stats = await mesh.admin("orders", f"/stats?filter=http.in.{caller}.downstream_cx_total")
    return int(stats.rpartition(":")[2])


async def give_secrets(mesh: Mesh) -> None:
    mesh.give_secrets()
    for workload in mesh.plan.proxies:
        await mesh.xds.wait_in_force(workload, deadline_seconds=10)


async def certificate_serial(mesh: Mesh, workload: str) -> str:
    certificates = json.loads(await mesh.admin(workload, "/certs"))["certificates"]
    return str(certificates[0]["cert_chain"][0]["serial_number"])


async def test_a_grant_changes_live_on_a_connection_that_stays() -> None:
    async with running_mesh(SHOP) as mesh, kept_alive(mesh, "storefront") as client:
        assert (await client.post("/orders")).status_code == 403
        before = await connections(mesh, "storefront")
        wider = replace(STOREFRONT, grants=(READ, WRITE))
        await mesh.push(mesh.compile(replace(mesh.system, channels=(wider, MAILER))))
        assert (await client.post("/orders")).status_code == 200
        assert await connections(mesh, "storefront") == before


@pytest.mark.parametrize(
    ("type_", "name", "change"),
    [
        (ResourceType.ROUTE, "in|storefront", lambda b: b["virtual_hosts"][0].update(domains=[])),
        (ResourceType.LISTENER, "in|storefront", lambda b: b.update(filter_chains=[])),
        (ResourceType.CLUSTER, "app", lambda b: b.update(connect_timeout="-1s")),
    ],
    ids=["route", "listener", "cluster"],
)
async def test_a_refusal_names_the_line_and_the_last_good_stays(
    type_: ResourceType, name: str, change: Callable[[Any], None]
) -> None:
    async with running_mesh(SHOP) as mesh:
        good = mesh.plan
        expected = next(
            r.at for r in good.proxies["orders"].resources if (r.type, r.name) == (type_, name)
        )
        with pytest.raises(ResourceRefused) as refused:
            await mesh.push(changed(good, "orders", name, change, type_))
        assert (refused.value.workload, refused.value.resource) == ("orders", name)
        assert refused.value.at == expected
        assert refused.value.detail
        entries = {(e.type, e.name): e for e in mesh.xds.ledger.entries("orders")}
        assert entries[type_, name].state is State.REFUSED
        assert entries[type_, name].detail == refused.value.detail
        assert (await mesh.request("storefront", "orders", "GET", "/orders/1")).status_code == 200
        await mesh.push(good)


async def test_a_port_that_is_taken_is_refused_and_tried_again_once_it_is_free() -> None:
    async with running_mesh(SHOP) as mesh:
        whole = mesh.plan
        await mesh.push(mesh.compile(replace(mesh.system, channels=(STOREFRONT,))))
        with socket.socket() as squatter:
            squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            await until(lambda: bound(squatter, address_in(whole, "mailer")))
            squatter.listen()
            with pytest.raises(ResourceRefused, match="Address already in use") as refused:
                await mesh.push(whole)
            assert (refused.value.workload, refused.value.resource) == ("mailer", "out|orders")
            assert refused.value.at == MAILER.at
        await mesh.push(whole)
        assert (await mesh.request("mailer", "orders", "GET", "/orders/1")).status_code == 200


async def test_blame_falls_on_one_of_many() -> None:
    async with running_mesh(SHOP) as mesh:
        plan = mesh.plan
        for caller in ("storefront", "mailer"):
            plan = changed(
                plan, "orders", f"in|{caller}", lambda b: b.update(stat_prefix="x"),
                ResourceType.LISTENER,
            )  # fmt: skip
        plan = changed(
            plan, "orders", "in|mailer", lambda b: b.update(filter_chains=[]), ResourceType.LISTENER
        )
        with pytest.raises(ResourceRefused) as refused:
            await mesh.push(plan)
        assert [r.name for r in refused.value.refusals] == ["in|mailer"]
        assert refused.value.at == MAILER.at


async def test_the_control_plane_dies_and_comes_back_and_nobody_notices() -> None:
    async with running_mesh(SHOP) as mesh, steady_traffic(mesh) as statuses:
        await mesh.xds.stop()
        await some_more(statuses)
        ledger = Recording()
        mesh.xds = XDSServer(ledger)
        for workload, proxy in mesh.plan.proxies.items():
            await mesh.xds.listen(workload, mesh.placement.xds_socket(workload))
            mesh.xds.set_resources(workload, proxy.resources)
        mesh.give_secrets()
        for workload in mesh.plan.proxies:
            await mesh.xds.wait_in_force(workload, deadline_seconds=20)
        assert [(workload, send.type) for workload, send in ledger.sends] == []
        assert {e.state for e in ledger.entries("orders")} == {State.ACKED}
    assert set(statuses) == {200}


async def test_a_control_plane_that_knows_nothing_yet_takes_nothing_away() -> None:
    async with running_mesh(SHOP) as mesh, steady_traffic(mesh) as statuses:
        await mesh.xds.stop()
        mesh.xds = XDSServer()
        await mesh.xds.listen("orders", mesh.placement.xds_socket("orders"))
        await until(lambda: mesh.xds.connected("orders"))
        await some_more(statuses)
        with pytest.raises(ProxySilent, match="it was given no Listeners yet"):
            await mesh.xds.wait_in_force("orders", deadline_seconds=0.1)
    assert set(statuses) == {200}


async def test_a_new_svid_and_a_new_root_arrive_by_the_same_stream() -> None:
    async with running_mesh(SHOP) as mesh, steady_traffic(mesh) as statuses:
        before = await certificate_serial(mesh, "orders")
        await mesh.identities.reissue("orders")
        mesh.give_secrets()
        await mesh.xds.wait_in_force("orders", deadline_seconds=10)
        leaf = await certificate_serial(mesh, "orders")
        assert leaf != before
        sequence = mesh.identities.prepare_root()
        await give_secrets(mesh)
        await mesh.identities.activate_root(sequence)
        await give_secrets(mesh)
        assert await certificate_serial(mesh, "orders") != leaf
        assert (await mesh.request("mailer", "orders", "GET", "/orders/1")).status_code == 200
    assert set(statuses) == {200}


async def test_a_removed_door_cuts_its_caller_and_nobody_else() -> None:
    async with (
        running_mesh(SHOP) as mesh,
        kept_alive(mesh, "storefront") as storefront,
        kept_alive(mesh, "mailer") as mailer,
    ):
        assert (await storefront.get("/orders/1")).status_code == 200
        assert (await mailer.get("/orders/1")).status_code == 200
        whole = mesh.plan.proxies["orders"].resources
        door = (ResourceType.LISTENER, "in|storefront")
        mesh.xds.set_resources("orders", [r for r in whole if (r.type, r.name) != door])
        await mesh.xds.wait_in_force("orders", deadline_seconds=10)
        gone = await storefront.get("/orders/1", timeout=60)  # the callee may just be restarting
        assert gone.status_code == 503
        assert (await mailer.get("/orders/1")).status_code == 200
        assert await connections(mesh, "mailer") == 1
        mesh.xds.set_resources("orders", whole)
        await mesh.xds.wait_in_force("orders", deadline_seconds=10)
        assert (await mesh.request("storefront", "orders", "GET", "/orders/1")).status_code == 200


async def test_a_proxy_that_is_started_again_gets_everything_again() -> None:
    async with running_mesh(SHOP) as mesh:
        await mesh.envoys["orders"].stop()
        with pytest.raises(ProxySilent, match="is not connected"):
            await mesh.xds.wait_in_force("orders", deadline_seconds=0.1)
        await mesh.envoys["orders"].start()
        await mesh.xds.wait_in_force("orders", deadline_seconds=20)
        await mesh.envoys["orders"].wait_ready(20)
        assert (await mesh.request("storefront", "orders", "GET", "/orders/1")).status_code == 200


async def test_a_secret_that_does_not_exist_is_named() -> None:
    """As for a revoked service: it has no SVID, so nothing that needs one is in force."""
    async with running_mesh(SHOP) as mesh:
        held: Mapping[str, Any] = secrets(mesh.identities, "orders")
        await mesh.envoys["orders"].stop()
        mesh.xds.set_secrets("orders", {n: b for n, b in held.items() if n != "default"})
        await mesh.envoys["orders"].start()
        with pytest.raises(ProxySilent, match="it asks for the Secret 'default'"):
            await mesh.xds.wait_in_force("orders", deadline_seconds=2)
        mesh.xds.set_secrets("orders", held)
        await mesh.xds.wait_in_force("orders", deadline_seconds=20)


async def test_a_proxy_that_pings_keeps_its_stream() -> None:
    """A server's own patience is three pings in five minutes; a loss is a change that waits."""

    def pinging(plan: EnvoyPlan) -> EnvoyPlan:
        often = {
            name: replace(
                proxy,
                bootstrap=json.loads(
                    json.dumps(proxy.bootstrap).replace('"interval": "30s"', '"interval": "0.1s"')
                ),
            )
            for name, proxy in plan.proxies.items()
        }
        assert often != plan.proxies
        return replace(plan, proxies=often)

    async with running_mesh(SHOP, sabotage=pinging) as mesh:
        await asyncio.sleep(2.0)  # twenty pings
        seen = await mesh.admin("orders", "/stats?filter=keepalive|xds.*upstream_cx_total|cx_total")
        assert "cluster.xds.upstream_cx_total: 1\n" in seen, seen
