"""The probe agent, as a real process: what it can do, and what happens when it is lost."""

import asyncio
import base64
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from watertight.attack import inside as inside_wire
from watertight.attack.http import exchange, request_bytes
from watertight.attack.inside import InsideWire, dial_inside
from watertight.attack.wire import Absent, Closed
from watertight.testing.processes import Agents
from watertight.verify.foothold import Foothold, FootholdLost, agent_argv


@asynccontextmanager
async def foothold() -> AsyncIterator[Foothold]:
    agents = Agents()
    inside = await Foothold.gain("orders", agents.run)
    try:
        yield inside
    finally:
        await inside.close()
        await agents.stop()


@asynccontextmanager
async def server(answer: bytes, *, reset: bool = False) -> AsyncIterator[int]:
    """Answers the first bytes of each connection, then closes (with data unread: a reset)."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1 if reset else 65_536)
        writer.write(answer)
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listening:
        yield listening.sockets[0].getsockname()[1]


OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx-app: a\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n"


async def test_raw_bytes_arrive_even_before_a_reset() -> None:
    async with foothold() as inside, server(b"why", reset=True) as port:
        answer = await inside.call("raw", host="127.0.0.1", port=port, data=b"xx" * 50_000)
    assert base64.b64decode(answer["data"]) == b"why"
    assert answer["closed"]


async def test_a_stream_is_a_wire() -> None:
    async with foothold() as inside, server(OK) as port:
        wire = await dial_inside(inside, "127.0.0.1", port, timeout_seconds=5)
        data = request_bytes("GET", "/", [("host", "a")])
        got = await exchange(wire, data, ["GET"], timeout_seconds=5)
        await wire.close()
    assert [answer.status for answer in got.answers] == [200]


async def test_a_stream_that_is_closed_twice_closes_nobody_else_s() -> None:
    """A descriptor is given again at once; another's words would go where they do not belong."""
    async with server(OK) as port, foothold() as inside:
        first = (await inside.call("open", host="127.0.0.1", port=port))["stream"]
        await inside.call("close", stream=first)
        second = (await inside.call("open", host="127.0.0.1", port=port))["stream"]
        await inside.call("close", stream=first)
        data = base64.b64encode(b"GET / HTTP/1.1\r\n\r\n").decode()
        assert await inside.call("send", stream=second, data=data) == {}
        answer = await inside.call("receive", stream=second, timeout_seconds=5)
        assert base64.b64decode(answer["data"]) == OK
        assert "error" in await inside.call("send", stream=first, data=data)


async def test_a_silent_stream_times_out_and_a_closed_one_says_so() -> None:
    async with foothold() as inside, server(b"") as port:
        wire = await dial_inside(inside, "127.0.0.1", port, timeout_seconds=5)
        with pytest.raises(TimeoutError):
            await wire.receive(0.05)
        await wire.send(b"x")
        assert await wire.receive(5) == b""
        await wire.close()
        with pytest.raises(Closed):
            await wire.receive(1)


async def test_a_stream_closed_while_it_is_read_leaves_nothing_to_the_next() -> None:
    """The next connection gets the same descriptor."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.read(99))

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    async with foothold() as inside, listening:
        for _ in range(20):
            wire = await dial_inside(inside, "127.0.0.1", port, timeout_seconds=5)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.02):
                    await wire.receive(5)
            await wire.close()
            wire = await dial_inside(inside, "127.0.0.1", port, timeout_seconds=5)
            await wire.send(b"hello")
            assert await wire.receive(5) == b"hello"
            await wire.close()


async def test_what_is_said_to_be_the_end_lets_the_other_side_go_on() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"all of " + await reader.read())
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    async with foothold() as inside, listening:
        wire = await dial_inside(inside, "127.0.0.1", port, timeout_seconds=5)
        await wire.send(b"it")
        await wire.finish()
        assert await wire.receive(5) == b"all of it"
        assert await wire.receive(5) == b""
        await wire.close()


async def test_nobody_listening_is_absent(unused_tcp_port: int) -> None:
    async with foothold() as inside:
        with pytest.raises(Absent, match="ConnectionRefusedError"):
            await dial_inside(inside, "127.0.0.1", unused_tcp_port, timeout_seconds=5)


async def test_one_look_tells_of_many_names_and_addresses(unused_tcp_port: int) -> None:
    async with server(OK) as port, foothold() as inside:
        names = await inside.call("resolve_all", names=["localhost", "nowhere.invalid"])
        addresses = {"there": ("127.0.0.1", port), "not": ("127.0.0.1", unused_tcp_port)}
        answer = await inside.call("connect_all", addresses=addresses)
    assert names["addresses"] == {"localhost": ["127.0.0.1"], "nowhere.invalid": []}
    assert answer["taken"] == ["there"]
    assert answer["reasons"] == ["Connection refused"]


async def test_many_requests_at_once_keep_apart() -> None:
    async with foothold() as inside:
        names = [f"watertight-{i}.invalid" for i in range(20)]
        answers = await asyncio.gather(*(inside.call("resolve", name=n) for n in names))
        (local,) = await asyncio.gather(inside.call("resolve", name="127.0.0.1"))
    assert all(answer["addresses"] == [] for answer in answers)
    assert local["addresses"] == ["127.0.0.1"]


async def test_files_sockets_and_interfaces(tmp_path: Path) -> None:
    listening = await asyncio.start_unix_server(lambda _r, w: w.close(), tmp_path / "a.sock")
    async with listening, foothold() as inside:
        paths = [str(tmp_path / name) for name in ("a.sock", "b.sock")]
        sockets = await inside.call("unix", paths=paths)
        listed = await inside.call("list", names=[str(tmp_path), str(tmp_path / "a.sock")])
        names = await inside.call("interfaces")
    assert sockets == {"connected": paths[:1], "reasons": ["No such file or directory"]}
    assert listed["listed"] == [str(tmp_path)]
    assert "lo" in names["names"]


async def test_a_failed_operation_is_an_answer_and_not_the_end() -> None:
    async with foothold() as inside:
        assert "error" in await inside.call("fly")
        assert "error" in await inside.call("raw", host="127.0.0.1", port=1, data="")
        assert (await inside.call("interfaces"))["names"]


async def test_a_lost_agent_is_said_to_be_lost() -> None:
    agents = Agents()
    inside = await Foothold.gain("orders", agents.run)
    await agents.stop()
    with pytest.raises(FootholdLost, match="orders"):
        await inside.call("interfaces")
    with pytest.raises(FootholdLost):
        await inside.call("interfaces")
    await inside.close()


@pytest.mark.parametrize("line", ["[]", "{}", '{"id": 1}', '{"id": []}', "no JSON"])
async def test_an_agent_that_does_not_keep_to_its_form_is_lost(line: str) -> None:
    agents = Agents()
    argv = [sys.executable, "-I", "-c", f"input(); print({line!r}, flush=True); input()"]
    inside = await Foothold.gain("orders", lambda service, _argv: agents.run(service, argv))
    try:
        with pytest.raises(FootholdLost, match="orders"):
            await inside.call("interfaces")
    finally:
        await inside.close()
        await agents.stop()


async def test_an_agent_that_does_not_start_is_said_to_be_lost() -> None:
    async def nowhere(
        _service: str, _argv: object
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        raise FileNotFoundError(2, "no such pod")

    with pytest.raises(FootholdLost, match="no such pod"):
        await Foothold.gain("orders", nowhere)


def test_the_agent_imports_the_standard_library_only() -> None:
    """It is run where our packages need not be: without site-packages it must still start."""
    argv = agent_argv()
    done = subprocess.run([argv[0], "-S", *argv[1:]], input=b"", check=False, timeout=20)
    assert done.returncode == 0
    assert argv[0] == sys.executable


@pytest.mark.parametrize(
    "answer", [OK, CHUNKED, b"HTTP/1.1 200 OK\r\n\r\nall until the end", b"", b"not HTTP at all"]
)
async def test_to_ask_is_to_send_and_to_receive_a_whole_answer(answer: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(99)
        for piece in (answer[:9], answer[9:-1], answer[-1:]):
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.01)
        if answer not in (OK, CHUNKED):
            writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    async with foothold() as inside, listening:
        wire = await dial_inside(inside, "127.0.0.1", port, timeout_seconds=5)
        received = await wire.ask(b"GET / HTTP/1.1\r\n\r\n", 600)  # far beyond this test's time
        while received != answer:
            received += await wire.receive(600)
        await wire.close()


async def test_to_ask_who_says_too_little_gives_what_there_is_in_time() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(99)
        writer.write(OK[:-1])
        await reader.read()
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    async with foothold() as inside, listening:
        wire = await dial_inside(inside, "127.0.0.1", port, timeout_seconds=5)
        assert await wire.ask(b"GET / HTTP/1.1\r\n\r\n", 0.1) == OK[:-1]
        await wire.close()


async def test_a_wait_inside_is_as_long_as_the_host_has_become_slow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The agent has its number of seconds; whoever asked it waits on if they were too few."""
    paces = iter((1.0, 3.0))
    monkeypatch.setattr(inside_wire, "patience", lambda seconds: seconds * next(paces, 3.0))
    told: list[float] = []

    class Silent:
        async def call(self, operation: str, **arguments: Any) -> dict[str, Any]:
            assert operation == "receive"
            told.append(round(arguments["timeout_seconds"]))
            return {"data": "", "closed": False}

    with pytest.raises(TimeoutError):
        await InsideWire(Silent(), 1).receive(10.0)
    assert told == [10, 30]
