"""What listens, as /proc tells it."""

import asyncio
from pathlib import Path

from tests.ports import free_port
from tests.runtime.conftest import eventually, running
from tests.runtime.programs import idler, system_of
from watertight.attack.arena import Listening
from watertight.runtime.capabilities import HostCapabilities
from watertight.verify.tap import Tap, prepare

_OPENS = """
import signal, socket, os, sys
port = int(sys.argv[1]) if len(sys.argv) > 1 else 8000
socks = [socket.create_server(("127.0.0.1", port)), socket.create_server(("::1", port),
    family=socket.AF_INET6), socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
    socket.socket(socket.AF_UNIX)]
socks[2].bind(("127.0.0.1", port))
mapped = socket.socket(socket.AF_INET6); mapped.bind(("::ffff:127.0.0.2", port)); mapped.listen()
socks[3].bind("/tmp/app-of-a-test.sock"); socks[3].listen()
quiet = socket.socket(); quiet.bind(("127.0.0.1", 0))
print("open", flush=True)
signal.pause()
"""


async def test_every_socket_is_told_with_its_process(
    home: Path, capabilities: HostCapabilities
) -> None:
    """TCP, TCP over IPv6, UDP and Unix; a bound socket that does not listen is none."""
    async with running(home, system_of(idler("orders", _OPENS)), capabilities) as host:
        await host.up("orders", "app")
        log = host.layout.log("orders", "app")
        await eventually(lambda: log.exists() and "open" in log.read_text(encoding="utf-8"))
        assert set(await host.supervisor.listening()) == {
            Listening("orders", "app", "127.0.0.1:8000"),
            Listening("orders", "app", "127.0.0.2:8000"),
            Listening("orders", "app", "[::1]:8000"),
            Listening("orders", "app", "udp:127.0.0.1:8000"),
            Listening("orders", "app", "unix:/tmp/app-of-a-test.sock"),
        }


async def test_a_stray_process_of_the_pod_is_told_as_unknown(
    home: Path, capabilities: HostCapabilities
) -> None:
    """What runs in a pod and is neither its proxy nor its app."""
    script = (
        "import socket, sys; s = socket.create_server(('127.0.0.1', 7777));"
        "print('open', flush=True); sys.stdin.read()"
    )
    async with running(home, system_of(idler("orders")), capabilities) as host:
        await host.up("orders", "app")
        assert await host.supervisor.listening() == []
        reader, writer = await host.supervisor.run_inside(
            "orders", [host.pods["orders"].process("app").argv[0], "-c", script]
        )
        assert await reader.readline() == b"open\n"
        assert await host.supervisor.listening() == [
            Listening("orders", "unknown", "127.0.0.1:7777")
        ]
        writer.close()


async def test_what_the_init_starts_is_no_stranger_before_it_is_started(
    home: Path, capabilities: HostCapabilities
) -> None:
    """For a moment it is a fork of the init, and holds the operator's socket as that does."""
    async with running(home, system_of(idler("orders")), capabilities) as host:
        await host.up("orders", "app")
        python = host.pods["orders"].process("app").argv[0]
        for _ in range(10):
            starts = [
                asyncio.ensure_future(host.supervisor.run_inside("orders", [python, "-c", ""]))
                for _ in range(8)
            ]
            while not all(start.done() for start in starts):
                assert await host.supervisor.listening() == []
            for start in starts:
                (await start)[1].close()


async def test_the_operator_hears_what_passes_between_a_pods_processes(
    home: Path, capabilities: HostCapabilities
) -> None:
    """Only the operator, and only of that pod."""
    script = (
        "import socket; s = socket.create_server(('127.0.0.1', 8000))\n"
        "print('open', flush=True)\n"
        "while True: c = s.accept()[0]; c.sendall(b'<' + c.recv(99) + b'>')"
    )
    asking = (
        "import socket, sys; s = socket.create_connection(('127.0.0.1', 8000));"
        "s.sendall(b'hello'); print(s.recv(99).decode(), flush=True)"
    )
    async with running(home, system_of(idler("orders", script)), capabilities) as host:
        await host.up("orders", "app")
        log = host.layout.log("orders", "app")
        await eventually(lambda: log.exists() and "open" in log.read_text(encoding="utf-8"))
        made = await host.supervisor.packet_socket("orders")
        assert made is not None
        prepare(made, 8000)
        tap = Tap(made, 8000)
        python = host.pods["orders"].process("app").argv[0]
        reader, writer = await host.supervisor.run_inside("orders", [python, "-c", asking])
        assert await reader.readline() == b"<hello>\n"
        (seen,) = tap.conversations(b"hello")
        assert (seen.asked, seen.answered) == (b"hello", b"<hello>")
        assert not tap.missed_since(0)
        tap.close()
        writer.close()


async def test_on_a_shared_network_only_ours_are_told(
    home: Path, no_isolation: HostCapabilities
) -> None:
    """The host's other servers are not our business."""
    port = free_port()
    script = f"import socket, signal; s = socket.create_server(('127.0.0.1', {port})); "
    script += "print('open', flush=True); signal.pause()"
    async with running(home, system_of(idler("orders", script)), no_isolation) as host:
        await host.up("orders", "app")
        log = host.layout.log("orders", "app")
        await eventually(lambda: log.exists() and "open" in log.read_text(encoding="utf-8"))
        assert await host.supervisor.listening() == [
            Listening("orders", "app", f"127.0.0.1:{port}")
        ]
