"""RabbitMQ does what every kind of server must, and each of its probes bites."""

import asyncio
import contextlib
import json
import struct
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from tests.ports import free_port
from tests.rig import Rig
from tests.servers.rabbitmq.sabotages import (
    BY_HAND,
    ELSEWHERE,
    EVERYTHING,
    GUARDED,
    GUARDED_TOO,
    LIVE,
    PASSWORDS,
    UNGUARDED,
    USER,
)
from tests.servers.rabbitmq.shop import SHOP
from watertight.attack.login import Login
from watertight.attack.probe import Outcome
from watertight.attack.tls import TLSWire
from watertight.enforcers.resource import ServerPlan
from watertight.servers.rabbitmq.attacks import frames, siblings
from watertight.servers.rabbitmq.attacks.dialect import RabbitMQDialect, act
from watertight.servers.rabbitmq.compile import CONFIGURATION, RabbitMQGrants
from watertight.servers.rabbitmq.control import control, evaluate
from watertight.servers.rabbitmq.erlang import binary
from watertight.servers.rabbitmq.facts import ACTOR, DEFINITIONS
from watertight.servers.rabbitmq.server import RabbitMQ
from watertight.testing import Conformance

QOS, QOS_OK = (60, 10), (60, 11)
ONE_AHEAD = struct.pack(">IHB", 0, 1, 0)


class TestConformance(Conformance):
    enforcer = RabbitMQ
    declaration = SHOP
    dialect = RabbitMQDialect()
    by_hand = BY_HAND
    weakenings = LIVE
    elsewhere = ELSEWHERE
    one_by_one = True
    refusal = r"watertight\.yaml:\d+:\d+: .*exchange jobs"

    async def do(self, rig: Rig, *things: Any) -> None:
        for command in things:
            await control(rig.host, *command)

    async def speak(self, rig: Rig, session: TLSWire, login: Login) -> None:
        seen = await act(session, frames.method(1, QOS, ONE_AHEAD), QOS_OK)
        assert seen.outcome is Outcome.SERVED

    def refused(self, rig: Rig) -> Sequence[ServerPlan]:
        """An exchange of another type; somebody lost and got something by what could be done.

        Also where the broker was started again for a file of its own, and made queues as it did.
        """
        grants: RabbitMQGrants = rig.plan.grants
        definitions = grants.definitions
        events, *exchanges = definitions["exchanges"]
        queues = [*definitions["queues"], {**definitions["queues"][0], "name": "x"}]
        other = {
            **definitions,
            "exchanges": [{**events, "type": "headers"}, *exchanges],
            "permissions": definitions["permissions"][1:],
            "queues": queues,
        }
        files = {**rig.plan.files, DEFINITIONS: json.dumps(other)}
        runs_on = replace(rig.plan, files=files, grants=replace(grants, definitions=other))
        restarts = {**files, CONFIGURATION: f"{files[CONFIGURATION]}# another file\n"}
        return runs_on, replace(runs_on, files=restarts)

    async def test_a_broker_without_its_guard_is_found_and_guarded_again(self, rig: Rig) -> None:
        for command in UNGUARDED:
            await control(rig.host, *command)
        for channel, ids in GUARDED.items():
            assert await self.broken(rig, ids | GUARDED_TOO, channel) == ids
        await control(rig.host, *EVERYTHING)
        assert await self.broken(rig, GUARDED_TOO) == GUARDED_TOO
        found = await rig.enforcer.drift(rig.plan, rig.host)
        assert any("guard" not in line and "interceptors, rabbit" in line for line in found)
        assert "started" in (await rig.enforcer.apply(rig.plan, rig.host)).changed
        for channel, ids in GUARDED.items():
            assert await self.broken(rig, ids | GUARDED_TOO, channel) == set()

    async def test_passwords_are_found(self, rig: Rig) -> None:
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
                "rabbit_auth_backend_internal:change_password("
                f"{binary(USER)}, {binary('x')}, {ACTOR})",
            )
            assert await self.broken(rig, PASSWORDS) == PASSWORDS
        finally:
            await rig.enforcer.apply(rig.plan, rig.host)
        assert await self.broken(rig, PASSWORDS) == set()

    async def test_a_port_that_nobody_declared_is_found(self, rig: Rig) -> None:
        port = free_port()
        await evaluate(
            rig.host, f'rabbit_networking:start_tcp_listener({{"127.0.0.1", {port}}}, 1)'
        )
        try:
            assert await self.broken(rig, {"ports.unknown"}, "anyone -> jobs") == {"ports.unknown"}
        finally:
            await evaluate(
                rig.host, f'rabbit_networking:stop_tcp_listener({{"127.0.0.1", {port}}})'
            )

    async def test_a_node_that_takes_any_cookie_is_found(
        self, rig: Rig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        server = await asyncio.start_server(credulous_node, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        monkeypatch.setattr(siblings, "distribution_port", lambda _: port)
        async with server:
            found = await self.broken(rig, {"siblings.distribution"}, "anyone -> jobs")
        assert found == {"siblings.distribution"}

    async def test_a_port_mapper_that_obeys_is_found(
        self, rig: Rig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
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
            found = await self.broken(rig, {"siblings.mapper"}, "anyone -> jobs")
            assert found == {"siblings.mapper"}
        finally:
            with contextlib.suppress(ProcessLookupError):
                mapper.kill()
            await mapper.wait()


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
