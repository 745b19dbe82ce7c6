"""The server's own duties: sockets, identities, waiting, and what it remembers."""

import asyncio
import os
import socket as sockets
import stat
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import grpc
import pytest

from tests.dataplane.xds.client import connected
from tests.dataplane.xds.playbook import CLUSTER, LISTENER, ROUTE, SECRET, resource, version
from tests.mesh import until
from watertight.dataplane.resources import Resource
from watertight.dataplane.xds import (
    CannotListen,
    ProxySilent,
    ResourceRefused,
    State,
    Unencodable,
    XDSServer,
)


@pytest.fixture
def directory() -> Iterator[Path]:
    """Short enough for a Unix socket, unlike pytest's own."""
    with tempfile.TemporaryDirectory(prefix="wt-") as path:
        yield Path(path)


@pytest.fixture
async def server() -> AsyncIterator[XDSServer]:
    server = XDSServer()
    yield server
    await server.stop()


def exists(path: Path) -> bool:
    return os.path.lexists(path)


async def test_a_door_is_private_and_goes_away(server: XDSServer, directory: Path) -> None:
    door = directory / "ads.sock"
    await server.listen("orders", door)
    assert stat.S_IMODE(door.stat().st_mode) == 0o600
    await server.stop_listening("orders")
    assert not exists(door)


@pytest.mark.root
async def test_a_door_belongs_to_its_proxy(server: XDSServer, directory: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    await server.listen("orders", directory / "ads.sock", owner=(65_534, 65_533))
    status = (directory / "ads.sock").stat()
    assert (status.st_uid, status.st_gid) == (65_534, 65_533)


async def test_a_door_that_a_killed_process_left_is_taken_over(
    server: XDSServer, directory: Path
) -> None:
    door = directory / "ads.sock"
    code = (
        "import os, signal, socket, sys; s = socket.socket(socket.AF_UNIX); "
        "s.bind(sys.argv[1]); s.listen(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    left = subprocess.run([sys.executable, "-c", code, door], check=False)  # noqa: ASYNC221
    assert left.returncode < 0
    assert exists(door)
    await server.listen("orders", door)
    async with connected(door) as proxy:
        server.set_resources("orders", [resource(CLUSTER, "a")])
        await proxy.ask(CLUSTER)
        assert [r.name for r in (await proxy.answer()).resources] == ["a"]


async def test_a_door_that_another_serves_is_not_stolen(server: XDSServer, directory: Path) -> None:
    door = directory / "ads.sock"
    with sockets.socket(sockets.AF_UNIX) as other:
        other.bind(os.fspath(door))
        other.listen()
        with pytest.raises(CannotListen, match="another process serves it"):
            await server.listen("orders", door)
        assert exists(door)


@pytest.mark.parametrize("name", ["x" * 200, "no-such-directory/ads.sock", "."])
async def test_a_door_that_cannot_be_is_one_clear_error(
    server: XDSServer, directory: Path, name: str
) -> None:
    with pytest.raises(CannotListen, match="cannot be served"):
        await server.listen("orders", directory / name)


async def test_a_proxy_is_who_its_door_says(server: XDSServer, directory: Path) -> None:
    """What it claims to be counts for nothing."""
    for workload in ("orders", "payments"):
        server.set_resources(workload, [resource(CLUSTER, f"of-{workload}")])
        await server.listen(workload, directory / workload)
    async with connected(directory / "orders", node="payments") as liar:
        await liar.ask(CLUSTER)
        assert [r.name for r in (await liar.answer()).resources] == ["of-orders"]
        assert server.connected("orders")
        assert not server.connected("payments")


async def test_a_common_door_knows_declared_proxies_only(
    server: XDSServer, directory: Path
) -> None:
    await server.listen_for_all(directory / "ads.sock")
    server.set_resources("orders", [resource(CLUSTER, "a")])
    async with connected(directory / "ads.sock", node="orders") as proxy:
        await proxy.ask(CLUSTER)
        assert [r.name for r in (await proxy.answer()).resources] == ["a"]
    async with connected(directory / "ads.sock", node="stranger") as stranger:
        await stranger.ask(CLUSTER)
        with pytest.raises((grpc.aio.AioRpcError, ConnectionError)) as refused:
            await stranger.answer()
        assert "NOT_FOUND" in str(refused.value)


async def test_a_type_that_we_do_not_serve_is_left_unanswered(
    server: XDSServer, directory: Path
) -> None:
    await server.listen("orders", directory / "ads.sock")
    server.set_resources("orders", [resource(CLUSTER, "a")])
    async with connected(directory / "ads.sock") as proxy:
        await proxy.ask("type.googleapis.com/envoy.service.runtime.v3.Runtime", "x")
        await proxy.ask(CLUSTER)
        assert (await proxy.answer()).type_url == CLUSTER


async def test_in_force_is_what_was_acked_and_nothing_less(
    server: XDSServer, directory: Path
) -> None:
    await server.listen("orders", directory / "ads.sock")
    with pytest.raises(ProxySilent, match="it is not connected"):
        await server.wait_in_force("orders", deadline_seconds=0.01)
    async with connected(directory / "ads.sock") as proxy:
        server.set_resources("orders", [resource(CLUSTER, "a"), resource(ROUTE, "in")])
        await proxy.ask(CLUSTER)
        clusters = await proxy.answer()
        with pytest.raises(ProxySilent, match="it has not answered the last Cluster response"):
            await server.wait_in_force("orders", deadline_seconds=0.01)
        waiting = asyncio.ensure_future(server.wait_in_force("orders", deadline_seconds=10))
        await proxy.ack(clusters)
        await proxy.ask(LISTENER)
        await proxy.ack(await proxy.answer())
        await until(lambda: not server._proxies["orders"].streams[-1].session.settling)
        assert not waiting.done()  # its routes were not asked for yet
        await proxy.ask(ROUTE, "in")
        await proxy.ack(await proxy.answer())
        in_force = await waiting
        assert set(in_force) == {CLUSTER, LISTENER, ROUTE}
        server.set_resources("orders", [resource(CLUSTER, "a", 2), resource(ROUTE, "in")])
        await proxy.ack(await proxy.answer())
        now = await server.wait_in_force("orders", deadline_seconds=10)
        assert now[CLUSTER] != in_force[CLUSTER]
        assert now[ROUTE] == in_force[ROUTE]


async def test_the_ledger_knows_what_became_of_everything(
    server: XDSServer, directory: Path
) -> None:
    await server.listen("orders", directory / "ads.sock")
    server.set_resources("orders", [resource(CLUSTER, "a")])
    assert server.ledger.connected_since("orders") is None
    async with connected(directory / "ads.sock") as proxy:
        await proxy.ask(CLUSTER)
        response = await proxy.answer()
        assert server.ledger.connected_since("orders") is not None
        assert states(server) == [("a", version(CLUSTER, "a"), State.SENT, "")]
        await proxy.ask(CLUSTER, nonce=response.nonce, error="not like this")
        with pytest.raises(ResourceRefused, match="not like this"):
            await server.wait_in_force("orders", deadline_seconds=10)
        assert states(server) == [("a", version(CLUSTER, "a"), State.REFUSED, "not like this")]
        server.set_resources("orders", [resource(CLUSTER, "a", 2)])
        await proxy.ack(await proxy.answer())
        await until(lambda: states(server)[0][2] is State.ACKED)
        server.set_resources("orders", [])
        await proxy.ack(await proxy.answer())
        await until(lambda: not states(server))
    await until(lambda: not server.connected("orders"))
    assert server.ledger.connected_since("orders") is None
    assert server.ledger.proxies() == ("orders",)
    await server.stop_listening("orders")
    assert server.ledger.proxies() == ()


def states(server: XDSServer) -> list[tuple[str, str, State, str]]:
    return [(e.name, e.version, e.state, e.detail) for e in server.ledger.entries("orders")]


async def test_what_cannot_be_encoded_changes_nothing(server: XDSServer, directory: Path) -> None:
    await server.listen("orders", directory / "ads.sock")
    server.set_resources("orders", [resource(CLUSTER, "a")])
    with pytest.raises(Unencodable):
        server.set_resources("orders", [Resource(CLUSTER, "a", {"name": "a", "no": 1})])
    async with connected(directory / "ads.sock") as proxy:
        await proxy.ask(CLUSTER)
        assert [r.version for r in (await proxy.answer()).resources] == [version(CLUSTER, "a")]


async def test_secrets_go_to_who_asks_for_them_by_name(server: XDSServer, directory: Path) -> None:
    await server.listen("orders", directory / "ads.sock")
    server.set_secrets("orders", {"default": {"generic_secret": {}}, "ROOTCA": {}})
    async with connected(directory / "ads.sock") as proxy:
        await proxy.ask(SECRET, "default")
        assert [r.name for r in (await proxy.answer()).resources] == ["default"]


async def test_an_earlier_stream_of_the_same_proxy_does_not_count(
    server: XDSServer, directory: Path
) -> None:
    """A connection may linger after its Envoy has made a new one."""
    await server.listen("orders", directory / "ads.sock")
    server.set_resources("orders", [])
    async with connected(directory / "ads.sock") as old:
        for type_ in (CLUSTER, LISTENER):
            await old.ask(type_)
            await old.ack(await old.answer())
        await server.wait_in_force("orders", deadline_seconds=10)
        async with connected(directory / "ads.sock") as new:
            await new.ask(CLUSTER)
            await new.answer()
            with pytest.raises(ProxySilent, match="it has not asked for its Listeners"):
                await server.wait_in_force("orders", deadline_seconds=0.01)
        await until(lambda: len(server._proxies["orders"].streams) == 1)
        await server.wait_in_force("orders", deadline_seconds=10)


async def test_a_proxy_that_oversteps_loses_its_stream_and_nothing_else(
    server: XDSServer, directory: Path
) -> None:
    await server.listen("orders", directory / "ads.sock")
    server.set_resources("orders", [resource(CLUSTER, "a")])
    async with connected(directory / "ads.sock") as proxy:
        await proxy.ask(CLUSTER, "x" * 2_000)
        with pytest.raises((grpc.aio.AioRpcError, ConnectionError), match="RESOURCE_EXHAUSTED"):
            await proxy.answer()
    await until(lambda: not server.connected("orders"))
    async with connected(directory / "ads.sock") as proxy:
        await proxy.ask(CLUSTER)
        assert [r.name for r in (await proxy.answer()).resources] == ["a"]


async def test_a_proxy_has_a_few_streams_and_no_more(server: XDSServer, directory: Path) -> None:
    await server.listen("orders", directory / "ads.sock")
    server.set_resources("orders", [resource(CLUSTER, "a")])
    async with AsyncExitStack() as stack:
        for _ in range(8):
            proxy = await stack.enter_async_context(connected(directory / "ads.sock"))
            await proxy.ask(CLUSTER)
            await proxy.answer()
        ninth = await stack.enter_async_context(connected(directory / "ads.sock"))
        await ninth.ask(CLUSTER)
        with pytest.raises((grpc.aio.AioRpcError, ConnectionError), match="RESOURCE_EXHAUSTED"):
            await ninth.answer()
