"""Pods that run for real, in the best isolation that whoever runs the tests may have."""

import asyncio
import json
import os
import signal
import socket
import sys
from pathlib import Path

import pytest

from tests.ports import free_port
from tests.runtime.conftest import Host, eventually, processes_that_name, running
from tests.runtime.programs import CONNECT, GET, STUBBORN, idler, server, system_of
from watertight.dataplane.binary import envoy_binary
from watertight.model.addresses import callee_addresses
from watertight.model.system import Listen, Protocol, Service
from watertight.runtime.capabilities import HostCapabilities
from watertight.runtime.pod_client import PodError
from watertight.runtime.pods import Machine, pod_specs
from watertight.runtime.starting import NotReadyError
from watertight.runtime.states import ProcessState

PYTHON = sys.executable


async def state_of(host: Host, pod: str, process: str) -> ProcessState:
    """What the pod says of one process."""
    statuses = await host.supervisor.status()
    status = next(s for s in statuses if s.name == pod)
    return next(p for p in status.processes if p.name == process)


async def until(host: Host, pod: str, state: str, *, restarts: int) -> ProcessState:
    """The app, once it is in ``state`` and was restarted so often."""
    async with asyncio.timeout(60):
        while True:
            found = await state_of(host, pod, "app")
            if found.state == state and found.restarts >= restarts:
                return found
            await asyncio.sleep(0.02)


async def test_an_app_serves_in_its_namespace_and_nowhere_else(
    home: Path, capabilities: HostCapabilities
) -> None:
    """Same port as a server on the host: they do not meet, in either direction."""
    port = free_port()
    async with running(home, system_of(server("orders", port)), capabilities) as host:
        await host.up("orders", "app")
        url = f"http://orders:{port}/1"
        assert await host.inside("orders", PYTHON, "-c", GET, url) == "orders serves /1\n"
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)
        with socket.create_server(("127.0.0.1", 0)) as outside:
            there = str(outside.getsockname()[1])
            (await asyncio.open_connection("127.0.0.1", int(there)))[1].close()
            said = await host.inside("orders", PYTHON, "-c", CONNECT, "127.0.0.1", there)
        assert "refused" in said


async def test_only_declared_names_resolve(home: Path, capabilities: HostCapabilities) -> None:
    """A callee resolves to its own loopback address; a service without a channel does not."""
    system = system_of(
        idler("storefront"),
        server("orders", 8081),
        server("payments", 8082),
        channels=(("storefront", "orders"),),
    )
    script = """
import socket, sys
for name in sys.argv[1:]:
    try: print(name, socket.gethostbyname(name))
    except OSError: print(name, "unknown")
"""
    async with running(home, system, capabilities) as host:
        await host.up("storefront", "app")
        names = ("orders", "payments", "example.com")
        said = await host.inside("storefront", PYTHON, "-c", script, *names)
        address = callee_addresses(system, "storefront", shared_network=False)["orders"]
        assert said == f"orders {address}\npayments unknown\nexample.com unknown\n"
        host.supervisor.update_hosts("storefront", {"payments": "127.64.0.9"})
        said = await host.inside("storefront", PYTHON, "-c", script, *names)
        assert said == "orders unknown\npayments 127.64.0.9\nexample.com unknown\n"


async def test_names_from_the_root_resolve_too(home: Path, capabilities: HostCapabilities) -> None:
    """``orders.`` is ``orders``, to every way of asking; no other name gets a dot."""
    system = system_of(
        idler("storefront"),
        server("orders", 8081),
        server("payments", 8082),
        channels=(("storefront", "orders"),),
    )
    script = """
import socket, sys
for name in sys.argv[1:]:
    try:
        addresses = sorted({found[4][0] for found in socket.getaddrinfo(name, 80)})
        print(name, *addresses, socket.gethostbyname(name))
    except OSError: print(name, "unknown")
"""
    async with running(home, system, capabilities) as host:
        await host.up("storefront", "app")
        names = ("orders.", "localhost.", "payments.")
        said = await host.inside("storefront", PYTHON, "-c", script, *names)
        address = callee_addresses(system, "storefront", shared_network=False)["orders"]
        assert said.splitlines() == [
            f"orders. {address} {address}",
            "localhost. 127.0.0.1 ::1 127.0.0.1",
            "payments. unknown",
        ]
        said = await host.inside("storefront", "/usr/bin/getent", "hosts", "orders.")
        assert said.split() == [address, "orders", "orders."]
        # Back from the address, the name is the plain one.
        ask = "import socket, sys; print(socket.gethostbyaddr(sys.argv[1])[0])"
        assert await host.inside("storefront", PYTHON, "-c", ask, address) == "orders\n"


async def test_the_environment_is_clean(
    home: Path, capabilities: HostCapabilities, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The operator's secrets stay with the operator; what is declared arrives."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "do-not-tell")
    system = system_of(
        Service("shop-front", ("python", "-c", "0"), environment={"COLOUR": "blue"}),
        server("order-book", 8081),
        Service("stock", listens=Listen(Protocol.TCP, 9000)),
        channels=(("shop-front", "order-book"), ("shop-front", "stock")),
    )
    async with running(home, system, capabilities) as host:
        await host.up("shop-front")
        script = "import json, os; print(json.dumps(dict(os.environ)))"
        environment = json.loads(await host.inside("shop-front", PYTHON, "-c", script))
    assert "do-not-tell" not in environment.values()
    assert environment["COLOUR"] == "blue"
    assert environment["ORDER_BOOK_URL"] == "http://order-book:8081"
    assert environment["STOCK_URL"] == "tcp://stock:9000"
    assert environment["SPIFFE_ENDPOINT_SOCKET"].endswith("/workload/shop-front/api.sock")


def _exists(path: str) -> bool:
    return Path(path).exists()


async def test_an_app_writes_only_where_it_may(home: Path, capabilities: HostCapabilities) -> None:
    """Its data directory stays, its /tmp is its own; the project is read-only."""
    script = """
import os, pathlib
for place in (os.environ["WATERTIGHT_DATA"], "/tmp", "/dev/shm", os.getcwd(), "/etc", "/"):
    try: (pathlib.Path(place) / "wt-mark").write_text("x"); print("yes")
    except OSError as error: print("no")
open("/dev/null", "w").write("x")
"""
    async with running(home, system_of(idler("orders")), capabilities) as host:
        await host.up("orders")
        said = await host.inside("orders", PYTHON, "-c", script)
        assert said.split() == ["yes", "yes", "yes", "no", "no", "no"]
        assert (host.layout.data("orders") / "wt-mark").exists()
    assert not _exists("/tmp/wt-mark")


async def test_a_killed_app_is_started_again(home: Path, capabilities: HostCapabilities) -> None:
    """And again, with longer delays; how it ended is told."""
    async with running(home, system_of(idler("orders")), capabilities) as host:
        await host.up("orders", "app")
        for times in (1, 2):
            await host.supervisor.signal_process("orders", "app", signal.SIGKILL)
            found = await until(host, "orders", "running", restarts=times)
            assert found.last_exit == "killed by SIGKILL"


async def test_an_app_that_always_fails_is_tried_with_back_off(
    home: Path, capabilities: HostCapabilities
) -> None:
    """Its exit status is told, its words are in its log, and it can be stopped."""
    broken = idler("orders", "import sys; print('no luck'); sys.exit(3)")
    async with running(home, system_of(broken), capabilities) as host:
        await host.supervisor.start_pod(host.pods["orders"])
        await host.supervisor.start_process("orders", "app")
        found = await until(host, "orders", "backing-off", restarts=2)
        assert found.last_exit == "exit status 3"
        await host.supervisor.stop_process("orders", "app")
        assert (await state_of(host, "orders", "app")).state == "stopped"
        assert "no luck" in host.layout.log("orders", "app").read_text(encoding="utf-8")


async def test_a_stubborn_app_is_killed_after_the_grace(
    home: Path, capabilities: HostCapabilities
) -> None:
    """SIGTERM first; what ignores it, with all that it started, is killed."""
    async with running(home, system_of(idler("orders", STUBBORN)), capabilities) as host:
        await host.up("orders", "app")
        log = host.layout.log("orders", "app")
        await eventually(lambda: log.exists() and "deaf" in log.read_text(encoding="utf-8"))
        await host.supervisor.stop_process("orders", "app", grace_seconds=0.2)
        assert (await state_of(host, "orders", "app")).last_exit == "killed by SIGKILL"


async def test_a_program_that_cannot_run_is_one_clear_error(
    home: Path, capabilities: HostCapabilities
) -> None:
    """It is told to whoever asked, and not tried again and again."""
    program = home / "project" / "serve"
    program.write_bytes(b"\x7fELF but not really")
    program.chmod(0o755)
    async with running(home, system_of(Service("orders", ("./serve",))), capabilities) as host:
        await host.supervisor.start_pod(host.pods["orders"])
        with pytest.raises(PodError, match=r"orders: cannot run .*/serve: Exec format error"):
            await host.supervisor.start_process("orders", "app")
        found = await state_of(host, "orders", "app")
        assert (found.state, found.restarts) == ("stopped", 0)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives apps users of their own")
async def test_a_project_that_its_users_cannot_read_is_told(
    home: Path, capabilities: HostCapabilities
) -> None:
    """With the way out."""
    async with running(home, system_of(idler("orders")), capabilities) as host:
        host.layout.project.chmod(0o700)
        await host.supervisor.start_pod(host.pods["orders"])
        with pytest.raises(PodError, match=r"cannot enter its directory .*Permission.*chmod"):
            await host.supervisor.start_process("orders", "app")


async def test_readiness_says_what_was_seen(home: Path, capabilities: HostCapabilities) -> None:
    """A port that nobody opens; a path that does not answer 2xx; one that comes to."""
    script = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    asked = 0
    def do_GET(self):
        Handler.asked += 1
        good = self.path == "/soon" and Handler.asked > 2
        self.send_response(204 if good else 503); self.end_headers()
http.server.HTTPServer(("127.0.0.1", 8000), Handler).serve_forever()
"""
    listens = Listen(Protocol.HTTP, 8000)
    system = system_of(
        Service("mute", idler("mute").run, listens=listens),
        Service("sick", ("python", "-c", script), listens=listens, ready="/never"),
        Service("slow", ("python", "-c", script), listens=listens, ready="/soon"),
    )
    async with running(home, system, capabilities) as host:
        await host.up("slow", "app")
        with pytest.raises(NotReadyError, match=r"mute is not ready after 0.3 s: nothing accepts"):
            await host.up("mute", "app", deadline_seconds=0.3)
        with pytest.raises(NotReadyError, match="/never answers 503"):
            await host.up("sick", "app", deadline_seconds=1)


async def test_a_port_that_is_taken_is_never_ready(
    home: Path, no_isolation: HostCapabilities
) -> None:
    """On a shared network somebody else may answer on the port: the app is not ready for that."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        async with running(home, system_of(server("orders", port)), no_isolation) as host:
            with pytest.raises(NotReadyError, match=r"(exit status 1|another program)"):
                await host.up("orders", "app", deadline_seconds=2)


async def test_a_new_specification_is_taken_at_the_next_start(
    home: Path, capabilities: HostCapabilities
) -> None:
    """The pod, and with it the proxy, runs on."""
    async with running(home, system_of(server("orders", 8081)), capabilities) as host:
        await host.up("orders", "app")
        before = host.supervisor.pods["orders"].pid
        changed = system_of(server("orders", 8099))
        specs = pod_specs(changed, host.layout, Machine.here(envoy_binary()))
        await host.supervisor.configure(specs["orders"])
        await host.supervisor.restart_process("orders", "app")
        await host.supervisor.wait_ready("orders", "app", deadline_seconds=20)
        said = await host.inside("orders", PYTHON, "-c", CONNECT, "127.0.0.1", "8099")
        assert said == "connected\n"
        assert host.supervisor.pods["orders"].pid == before


async def test_what_an_app_starts_ends_with_it(home: Path, capabilities: HostCapabilities) -> None:
    """Also what it put into a session of its own."""
    script = """
import subprocess, sys, signal
subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"], start_new_session=True)
signal.pause()
"""
    async with running(home, system_of(idler("orders", script)), capabilities) as host:
        await host.up("orders", "app")
        await eventually(
            lambda: sum("signal.pause()" in c for c in processes_that_name(home).values()) >= 2
        )
        await host.supervisor.stop_process("orders", "app")
        assert not any("signal.pause()" in c for c in processes_that_name(home).values())


async def test_the_fallback_runs_apps_on_the_hosts_loopback(
    home: Path, no_isolation: HostCapabilities
) -> None:
    """Without namespaces: the same pods, readiness, restarts and end."""
    port = free_port()
    system = system_of(
        server("orders", port), idler("storefront"), channels=(("storefront", "orders"),)
    )
    async with running(home, system, no_isolation) as host:
        await host.up("orders", "app")
        await host.up("storefront", "app")
        (await asyncio.open_connection("127.0.0.1", port))[1].close()
        address = callee_addresses(system, "storefront", shared_network=True)["orders"]
        script = "import os; print(os.environ['ORDERS_URL'])"
        said = await host.inside("storefront", PYTHON, "-c", script)
        assert said == f"http://{address}:{port}\n"
        await host.supervisor.signal_process("orders", "app", signal.SIGKILL)
        await until(host, "orders", "running", restarts=1)
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)
