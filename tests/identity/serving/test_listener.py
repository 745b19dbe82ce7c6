"""A door lets each caller through to its own identity, whoever it says it is (rule W13)."""

import asyncio
import os
import stat
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import grpc
import pytest

from tests.identity.serving import processes
from tests.identity.serving.authority import TRUST_DOMAIN, Identities
from tests.identity.serving.client import Client, client
from tests.identity.serving.polling import eventually, eventually_async
from watertight.identity.attestation import Process, ProcessTreeAttestor, start_ticks
from watertight.identity.workload_api.endpoint import IdentityEndpoint
from watertight.identity.workload_api.listener import ListenerError

_WHO_AM_I = """
import sys
from spiffe import WorkloadApiClient
sys.stdin.readline()
with WorkloadApiClient(sys.argv[1], default_timeout=20) as client:
    print(client.fetch_x509_svid().spiffe_id)
"""


async def start(door: Path) -> asyncio.subprocess.Process:
    """A process that asks who it is once it is told to."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-I",
        "-c",
        _WHO_AM_I,
        f"unix://{door}",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def answer(started: asyncio.subprocess.Process) -> tuple[str, str]:
    """What it printed, and what it complained."""
    try:
        async with asyncio.timeout(60):
            out, err = await started.communicate(b"\n")
    finally:
        if started.returncode is None:
            started.kill()
            await started.wait()
    return out.decode().strip(), err.decode()


def admit(attestor: ProcessTreeAttestor, name: str, started: asyncio.subprocess.Process) -> None:
    attestor.admit(name, Process(started.pid, start_ticks(started.pid)), {os.geteuid()})


async def test_two_processes_at_one_door_get_an_identity_each(
    door: Path, attestor: ProcessTreeAttestor
) -> None:
    one, two = await start(door), await start(door)
    admit(attestor, "orders", one)
    admit(attestor, "payments", two)
    answers = await asyncio.gather(answer(one), answer(two))
    assert [out for out, _ in answers] == [
        f"spiffe://{TRUST_DOMAIN}/orders",
        f"spiffe://{TRUST_DOMAIN}/payments",
    ]


async def test_an_impostor_gets_nothing(door: Path, attestor: ProcessTreeAttestor) -> None:
    """It may open the socket, speaks the protocol right, and is outside of every tree."""
    honest, impostor = await start(door), await start(door)
    admit(attestor, "orders", honest)
    out, complaint = await answer(impostor)
    assert out == ""
    assert "no identity issued" in complaint
    assert (await answer(honest))[0] == f"spiffe://{TRUST_DOMAIN}/orders"


async def test_who_called_too_early_is_attested_anew(
    nobody: Client, attestor: ProcessTreeAttestor
) -> None:
    """One client, which keeps its channel and asks again: its first connection is ended."""
    with pytest.raises(grpc.aio.AioRpcError):
        await nobody.stream("FetchX509SVID").next()
    attestor.admit("orders", Process(os.getpid(), start_ticks(os.getpid())), {os.geteuid()})

    async def is_answered() -> bool:
        try:
            await nobody.stream("FetchX509SVID").next()
        except grpc.aio.AioRpcError:
            return False
        return True

    await eventually_async(is_answered)


async def test_the_identity_is_not_known_to_the_source(
    door: Path, attestor: ProcessTreeAttestor
) -> None:
    attestor.admit("orders", Process(os.getpid(), start_ticks(os.getpid())), {os.geteuid()})
    attestor.withdraw("orders")
    attestor.admit("stranger", Process(os.getpid(), start_ticks(os.getpid())), {os.geteuid()})
    async with client(door) as connected:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await connected.stream("FetchX509SVID").next()
    assert error.value.code() is grpc.StatusCode.PERMISSION_DENIED


@pytest.mark.root
@pytest.mark.skipif(not processes.is_root(), reason="only root may start processes of other uids")
@pytest.mark.parametrize(("mode", "enters"), [(0o600, False), (0o666, True)])
async def test_the_mode_decides_who_may_knock(
    endpoint: IdentityEndpoint, short: Path, mode: int, enters: bool
) -> None:
    await endpoint.open(short / "api.sock", mode=mode)
    with processes.caller(short / "api.sock", uid=12345) as started:
        await eventually(lambda: started.poll() is not None)
        assert (started.returncode == 0) is enters


async def test_files_are_private(endpoint: IdentityEndpoint, short: Path) -> None:
    await endpoint.open(short / "api.sock")
    assert stat.S_IMODE((short / "api.sock").stat().st_mode) == 0o600
    assert stat.S_IMODE((short / "private").stat().st_mode) == 0o700


async def test_a_socket_that_a_dead_run_left_is_replaced(
    endpoint: IdentityEndpoint, short: Path
) -> None:
    path = short / "api.sock"
    with processes.listening(path), processes.listening(short / "api.sock.new"):
        pass
    assert path.is_socket()
    await endpoint.open(path)
    async with client(path) as connected:
        await connected.stream("FetchX509SVID").next()


async def test_a_directory_that_does_not_exist_is_an_error(
    endpoint: IdentityEndpoint, short: Path
) -> None:
    with pytest.raises(ListenerError, match=r"api\.sock cannot be made: No such file"):
        await endpoint.open(short / "missing" / "api.sock")


async def test_a_path_that_is_too_long_is_an_error(endpoint: IdentityEndpoint, short: Path) -> None:
    with pytest.raises(ListenerError, match="too long"):
        await endpoint.open(short / ("x" * 104))


async def test_a_door_that_is_full_refuses_and_recovers(
    endpoint: IdentityEndpoint, short: Path
) -> None:
    path = short / "api.sock"
    door = await endpoint.open(path, capacity=2)
    async with AsyncExitStack() as stack:
        for _ in range(2):
            _, held = await asyncio.open_unix_connection(path)
            stack.callback(held.close)
        await eventually(lambda: door.connections == 2)
        reader, writer = await asyncio.open_unix_connection(path)
        assert await reader.read() == b""
        writer.close()
    await eventually(lambda: door.connections == 0)
    async with client(path) as connected:
        await connected.stream("FetchX509SVID").next()


async def test_hundreds_of_connections_come_and_go(endpoint: IdentityEndpoint, short: Path) -> None:
    path = short / "api.sock"
    door = await endpoint.open(path)

    async def ask() -> str:
        async with client(path) as connected:
            answer = await connected.stream("FetchX509SVID").next()
        return str(answer.svids[0].spiffe_id)

    async with asyncio.TaskGroup() as group:
        asking = [group.create_task(ask()) for _ in range(200)]
    assert {task.result() for task in asking} == {f"spiffe://{TRUST_DOMAIN}/orders"}
    await eventually(lambda: door.connections == 0)


async def test_five_hundred_streams_get_an_update(
    endpoint: IdentityEndpoint, identities: Identities, short: Path
) -> None:
    await endpoint.open(short / "api.sock")
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(client(short / "api.sock")) for _ in range(50)]
        streams = [each.stream("FetchX509SVID") for each in clients for _ in range(10)]
        await asyncio.gather(*(stream.next() for stream in streams))
        renewed = identities.rotate_leaf("orders")
        answers = await asyncio.gather(*(stream.next() for stream in streams))
    assert {answer.svids[0].x509_svid for answer in answers} == {renewed.chain_der()}
    await eventually(lambda: not identities.waiting)


async def test_shutting_a_door_ends_its_connections(
    endpoint: IdentityEndpoint, short: Path
) -> None:
    path = short / "api.sock"
    door = await endpoint.open(path)
    reader, writer = await asyncio.open_unix_connection(path)
    await eventually(lambda: door.connections == 1)
    await endpoint.shut(path)
    await endpoint.shut(path)
    await door.close()
    while await reader.read(1024):
        pass  # What the server had said already.
    assert door.connections == 0
    assert not path.exists()
    writer.close()
