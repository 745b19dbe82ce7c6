"""Every probe bites: each weakening of the running broker turns exactly the right ones red."""

import asyncio
import contextlib
import ssl
import struct
import tempfile
import warnings
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from tests.ports import free_port
from tests.rig import SANDBOXED, Rig, not_held, running_server
from tests.servers.rabbitmq.sabotages import (
    ELSEWHERE,
    EVERYTHING,
    GUARDED,
    GUARDED_TOO,
    LIVE,
    OPEN_DOOR,
    ORDERS,
    PASSWORDS,
    UNGUARDED,
    USER,
    Sabotage,
)
from tests.servers.rabbitmq.shop import SHOP
from watertight.attack.probe import Verdict
from watertight.identity.workload_api.splice import Stream, splice
from watertight.model.load import load_text
from watertight.servers.rabbitmq.attacks import siblings
from watertight.servers.rabbitmq.compile import CONFIGURATION
from watertight.servers.rabbitmq.control import control, evaluate
from watertight.servers.rabbitmq.erlang import binary
from watertight.servers.rabbitmq.facts import ACTOR
from watertight.servers.rabbitmq.server import RabbitMQ

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def rig() -> AsyncIterator[Rig]:
    async with running_server(RabbitMQ(), SHOP) as running:
        yield running


async def broken(rig: Rig, ids: Collection[str], channel: str = ORDERS) -> set[str]:
    """Which of these break, tried one after another: some take away what others need."""
    found = set()
    for probe in rig.probes:
        if probe.id in ids and probe.channel == channel and probe.id not in found:
            [result] = await rig.run([probe])
            if result.verdict is Verdict.BROKEN:
                found.add(probe.id)
    return found


async def test_every_probe_holds_on_the_broker_as_it_is_applied(rig: Rig) -> None:
    results = await rig.run(rig.probes)
    assert not_held(results) == {}
    assert len(results) >= 200


@pytest.mark.parametrize("sabotage", LIVE, ids=lambda s: s.name)
async def test_a_weakened_broker_turns_exactly_these_probes_red(
    rig: Rig, sabotage: Sabotage
) -> None:
    for command in sabotage.commands:
        await control(rig.host, *command)
    try:
        tried = sabotage.breaks | sabotage.holds
        assert await broken(rig, tried, sabotage.channel) == sabotage.breaks
    finally:
        applied = await rig.enforcer.apply(rig.plan, rig.host)  # which looks whether it took
    assert applied.changed != ()


async def test_a_broker_without_its_guard_is_found_and_guarded_again(rig: Rig) -> None:
    for command in UNGUARDED:
        await control(rig.host, *command)
    for channel, ids in GUARDED.items():
        assert await broken(rig, ids | GUARDED_TOO, channel) == ids
    await control(rig.host, *EVERYTHING)
    assert await broken(rig, GUARDED_TOO) == GUARDED_TOO
    found = await rig.enforcer.drift(rig.plan, rig.host)
    assert any("guard" not in line and "interceptors, rabbit" in line for line in found)
    assert "started" in (await rig.enforcer.apply(rig.plan, rig.host)).changed
    for channel, ids in GUARDED.items():
        assert await broken(rig, ids | GUARDED_TOO, channel) == set()


async def test_passwords_are_found(rig: Rig) -> None:
    right = rig.plan.files[CONFIGURATION]
    more = "auth_mechanisms.2 = PLAIN\nauth_mechanisms.3 = AMQPLAIN\n"
    await rig.host.write({**rig.plan.files, CONFIGURATION: right + more})
    await rig.host.stop()
    await rig.host.start()
    try:
        await control(rig.host, "await_startup")
        guest, empty = binary("guest"), binary("")
        await evaluate(
            rig.host,
            f"rabbit_auth_backend_internal:add_user({guest}, {guest}, {ACTOR})",
            "rabbit_auth_backend_internal:set_permissions("
            f"{guest}, {binary('jobs')}, {empty}, {empty}, {empty}, {ACTOR})",
            f"rabbit_auth_backend_internal:change_password({binary(USER)}, {binary('x')}, {ACTOR})",
        )
        assert await broken(rig, PASSWORDS) == PASSWORDS
    finally:
        await rig.enforcer.apply(rig.plan, rig.host)
    assert await broken(rig, PASSWORDS) == set()


async def test_a_door_that_takes_anybody_in_is_found(rig: Rig) -> None:
    async with listen(rig, "orders"):
        assert await broken(rig, OPEN_DOOR) == OPEN_DOOR
        assert await broken(rig, {"reach.doors"}, "stranger -> jobs") == {"reach.doors"}
    assert await broken(rig, {"tls.plaintext", "tls.no-certificate"}) == set()


async def test_a_port_that_nobody_declared_is_found(rig: Rig) -> None:
    port = free_port()
    await evaluate(rig.host, f'rabbit_networking:start_tcp_listener({{"127.0.0.1", {port}}}, 1)')
    try:
        assert await broken(rig, {"ports.unknown"}, "anyone -> jobs") == {"ports.unknown"}
    finally:
        await evaluate(rig.host, f'rabbit_networking:stop_tcp_listener({{"127.0.0.1", {port}}})')


async def test_a_node_that_takes_any_cookie_is_found(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = await asyncio.start_server(credulous_node, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    monkeypatch.setattr(siblings, "distribution_port", lambda _: port)
    async with server:
        found = await broken(rig, {"siblings.distribution"}, "anyone -> jobs")
    assert found == {"siblings.distribution"}


async def test_a_port_mapper_that_obeys_is_found(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    mapper = await asyncio.create_subprocess_exec(
        *("epmd", "-port", str(port), "-address", "127.0.0.1", "-relaxed_command_check"),
        stdin=asyncio.subprocess.DEVNULL,
    )
    monkeypatch.setattr(siblings, "mapper_port", lambda _: port)
    try:
        async with asyncio.timeout(60):
            while not await accepts(port):  # noqa: ASYNC110  another process starts
                await asyncio.sleep(0.02)
        found = await broken(rig, {"siblings.mapper"}, "anyone -> jobs")
        assert found == {"siblings.mapper"}
    finally:
        with contextlib.suppress(ProcessLookupError):
            mapper.kill()
        await mapper.wait()


async def test_every_probe_has_a_sabotage_test() -> None:
    tried = {probe for sabotage in LIVE for probe in sabotage.breaks}
    tried |= PASSWORDS | OPEN_DOOR | ELSEWHERE | GUARDED_TOO | set().union(*GUARDED.values())
    system = load_text(SHOP.replace("{port}", "5671"))
    every = {probe.id for probe in RabbitMQ().probes(system)}
    assert tried == every
    assert {"reach.name", "reach.address"} == set(SANDBOXED)


async def accepts(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


async def credulous_node(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A node without a cookie: it takes whoever answers its challenge, whatever the answer."""
    size = struct.unpack(">H", await reader.readexactly(2))[0]
    await reader.readexactly(size)
    name = b"rabbit@localhost"
    challenge = struct.pack(">cQIIH", b"N", 0, 1, 1, len(name)) + name
    writer.write(b"\x00\x03sok" + struct.pack(">H", len(challenge)) + challenge)
    size = struct.unpack(">H", await reader.readexactly(2))[0]
    await reader.readexactly(size)
    writer.write(struct.pack(">Hc", 17, b"a") + bytes(16))
    await writer.drain()
    writer.close()


@asynccontextmanager
async def listen(rig: Rig, service: str) -> AsyncIterator[None]:
    """In place of the door: TLS of any version with anybody, or none, and behind it ``service``."""
    path = rig.arena.door(rig.resource, service)
    inner = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    inner.check_hostname, inner.verify_mode = False, ssl.CERT_NONE
    credentials = rig.host.placement.credentials(service)
    inner.load_cert_chain(credentials / "certificate.pem", credentials / "private_key.pem")
    lax = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    own = rig.host.placement.credentials(rig.resource)
    lax.load_cert_chain(own / "certificate.pem", own / "private_key.pem")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        lax.minimum_version = ssl.TLSVersion.TLSv1
    lax.set_ciphers("ALL:@SECLEVEL=0")

    async def onward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server = await asyncio.open_connection("127.0.0.1", rig.host.port, ssl=inner)
        await splice(Stream(reader, writer), Stream(*server))

    with tempfile.TemporaryDirectory() as directory:
        secure = Path(directory) / "tls.sock"

        async def sorted_out(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                first = await reader.readexactly(1)
            except asyncio.IncompleteReadError:
                writer.close()
                return
            if first == b"\x16":
                there = Stream(*await asyncio.open_unix_connection(secure))
            else:
                there = Stream(
                    *await asyncio.open_connection("127.0.0.1", rig.host.port, ssl=inner)
                )
            there.writer.write(first)
            await splice(Stream(reader, writer), there)

        whole = path.with_suffix(".whole")
        path.rename(whole)
        try:
            async with (
                await asyncio.start_unix_server(onward, secure, ssl=lax),
                await asyncio.start_unix_server(sorted_out, path),
            ):
                yield
        finally:
            path.unlink(missing_ok=True)
            whole.rename(path)
