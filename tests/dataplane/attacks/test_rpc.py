"""Two callers of one gRPC app: what one does to HTTP/2 the other does not feel, or it is seen."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
import pytest_asyncio
from hpack import Decoder

from tests.dataplane.attacks import weaken
from tests.dataplane.attacks.range import firing_range, not_held
from tests.dataplane.attacks.raw import bytes_to, static_cluster
from tests.dataplane.attacks.weaken import Json, Weaken, listener, manager, routes, together
from tests.fragile import Fragile, fragile
from tests.mesh import Mesh, running_mesh
from tests.ports import free_port
from tests.verify.live import arena_over
from watertight.attack.probe import Probe, Verdict
from watertight.attack.raw_frames import (
    END_HEADERS,
    HEADERS,
    PREFACE,
    decoded,
    headers,
)
from watertight.dataplane.attacks import rpc
from watertight.model.system import (
    Channel,
    Gateway,
    Listen,
    Protocol,
    Route,
    RPCGrant,
    Service,
    System,
)
from watertight.verify.arena import LiveArena
from watertight.verify.prover import prove
from watertight.verify.results import Result

pytestmark = pytest.mark.asyncio(loop_scope="module")

DEADLINE_SECONDS = 60.0
GRANTS = (RPCGrant("shop.Catalogue", "Get"),)
MALLORY = "mallory -> app"
IN = ("app", "in|mallory")


def system(port: int) -> System:
    """Two callers, and users of the gateway, at one app."""
    return System(
        trust_domain="fragile.internal",
        services={
            "alice": Service("alice"),
            "mallory": Service("mallory"),
            "app": Service("app", listens=Listen(Protocol.GRPC, port)),
        },
        channels=(Channel("alice", "app", grants=GRANTS), Channel("mallory", "app", grants=GRANTS)),
        gateway=Gateway(
            hostname="fragile.example",
            address="127.0.0.1",
            port=free_port("127.0.0.1"),
            routes=(Route("/shop.Catalogue/Get", "app", ("POST",)),),
        ),
    )


@dataclass(frozen=True)
class Scene:
    mesh: Mesh
    arena: LiveArena
    app: Fragile

    async def run(self, *ids: str, on: str = MALLORY) -> tuple[Result, ...]:
        probes = [p for p in self.probes if p.channel == on and (not ids or p.id in ids)]
        proof = await prove(self.arena, probes, deadline_seconds_per_probe=DEADLINE_SECONDS)
        return proof.results

    @property
    def probes(self) -> list[Probe]:
        return list(rpc.probes(self.mesh.system))


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def scene() -> AsyncIterator[Scene]:
    async with (
        fragile() as app,
        running_mesh(system(app.port), apps=False) as mesh,
        arena_over(mesh) as arena,
    ):
        yield Scene(mesh, arena, app)


async def test_the_other_caller_feels_nothing(scene: Scene) -> None:
    results = await scene.run()
    assert not_held(results) == {}
    assert all("byte for byte" in r.observed for r in results)
    assert scene.app.crashes == []


@pytest.mark.slow
async def test_another_user_of_the_gateway_feels_nothing(scene: Scene) -> None:
    results = await scene.run(on="outside -> gateway")
    assert not_held(results) == {}
    assert results
    assert scene.app.crashes == []


def shared(body: Json) -> None:
    """Cluster: all callers' streams on one connection to the app."""
    del body["connection_pool_per_downstream_connection"]


def to_app(edit: weaken.Edit) -> Weaken:
    """An edit of the cluster that leads to the app, which all callers share."""

    def both(body: Json) -> None:
        shared(body)
        edit(body)

    return weaken.cluster("app", "app", both)


def narrow(body: Json) -> None:
    """Cluster: one window for all, as wide as one stream's."""
    key = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    options = body["typed_extension_protocol_options"][key]["explicit_http_config"]
    options["http2_protocol_options"]["initial_connection_window_size"] = 65_536


def few(body: Json) -> None:
    """Cluster: as many requests at once as Envoy's own default is in proportion."""
    body["circuit_breakers"]["thresholds"][0]["max_requests"] = 200


def believing(body: Json) -> None:
    """Routes: who calls is added to what the caller says of itself."""
    for route in body["virtual_hosts"][0]["routes"]:
        for added in route.get("request_headers_to_add", []):
            added["append_action"] = "APPEND_IF_EXISTS_OR_ADD"


def no_filter(name: str) -> weaken.Edit:
    """Connection manager: without one of its filters."""

    def edit(body: Json) -> None:
        kept = [f for f in body["http_filters"] if f["name"] != name]
        assert len(kept) < len(body["http_filters"])
        body["http_filters"] = kept

    return edit


WEAKENED: dict[str, tuple[Weaken, tuple[str, ...]]] = {
    "one connection for all": (
        to_app(lambda _body: None),
        ("grpc.resets", "grpc.made-resets", "grpc.messages"),
    ),
    "one window for all": (to_app(narrow), ("grpc.window",)),
    "a limit of requests for all": (to_app(few), ("grpc.half-open",)),
    "callers are believed": (
        together(
            routes(*IN, believing),
            manager(*IN, lambda body: body.pop("early_header_mutation_extensions")),
        ),
        ("grpc.identity",),
    ),
    "trailers pass as they are": (
        manager(*IN, no_filter("envoy.filters.http.header_mutation")),
        ("grpc.identity", "grpc.trailers"),
    ),
}
AS_WRITTEN = frozenset(
    {
        "grpc.continuation",
        "grpc.control-frames",
        "grpc.fields",
        "grpc.goaway",
        "grpc.lengths",
        "grpc.pseudo-fields",
        "grpc.trailers",
    }
)
AT_THE_GATEWAY = frozenset({"gateway.frames"})
RPC_SABOTAGES = AS_WRITTEN.union(AT_THE_GATEWAY, *(breaks for _weaken, breaks in WEAKENED.values()))


def slow(name: str) -> object:
    """A starved victim takes its time, and one variant of sharing shows the others' kind."""
    takes_long = "window" in name or "limit" in name
    return pytest.param(name, marks=pytest.mark.slow) if takes_long else name


@pytest.mark.parametrize("name", [slow(name) for name in WEAKENED])
async def test_a_weakened_mesh_turns_these_probes_red(scene: Scene, name: str) -> None:
    """One after another: where all share a connection, one probe's attack is felt by all."""
    weakened, breaks = WEAKENED[name]
    async with scene.mesh.sabotage(weakened):
        for probe in breaks:
            (result,) = await scene.run(probe)
            assert result.verdict is Verdict.BROKEN, result


async def test_frames_that_nobody_reads_turn_these_probes_red(scene: Scene) -> None:
    async with relay(scene.app.port, "spiffe://fragile.internal/mallory") as port:
        past_envoy = together(
            weaken.adding("app", lambda _plan: static_cluster("relay", port)),
            listener(*IN, bytes_to("relay")),
        )
        async with scene.mesh.sabotage(past_envoy):
            results = await scene.run(*AS_WRITTEN)
    assert {r.id: r.observed for r in results if r.verdict is not Verdict.BROKEN} == {}


async def test_every_probe_bites(scene: Scene) -> None:
    assert {p.id for p in scene.probes} == RPC_SABOTAGES - AT_THE_GATEWAY


async def test_a_gateway_that_ends_no_frames_is_seen() -> None:
    async with fragile() as app, firing_range() as target:
        every = rpc.probes(target.mesh.system)
        probes = [p for p in every if p.id in AT_THE_GATEWAY]
        assert not_held(await target.run(probes)) == {}
        weakened = together(
            weaken.adding("gateway", lambda _plan: static_cluster("fragile", app.port)),
            listener("gateway", "https", bytes_to("fragile")),
        )
        async with target.mesh.sabotage(weakened):
            (result,) = await target.run(probes)
        assert result.verdict is Verdict.BROKEN, result


@asynccontextmanager
async def relay(app_port: int, caller: str) -> AsyncIterator[int]:
    """A proxy that adds who calls to each request, and reads nothing else of what it passes on."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, forth = await asyncio.open_connection("127.0.0.1", app_port)
        copying = asyncio.ensure_future(_copy(back, writer))
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            forth.write(await reader.readexactly(len(PREFACE)))
            decoder = Decoder()
            while True:
                head = await reader.readexactly(9)
                payload = await reader.readexactly(int.from_bytes(head[:3]))
                stream = int.from_bytes(head[5:])
                if head[3] == HEADERS and head[4] & END_HEADERS:
                    fields = decoded(decoder, payload)
                    named = (*fields, ("x-forwarded-client-cert", f"URI={caller}"))
                    is_request = any(name == ":method" for name, _ in fields)
                    end = bool(head[4] & 1)
                    forth.write(headers(stream, named if is_request else fields, end=end))
                else:
                    forth.write(head + payload)
                await forth.drain()
        forth.close()
        copying.cancel()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65_536):
            writer.write(data)
        writer.close()
