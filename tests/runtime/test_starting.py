"""A program that will never be ready is given up soon, and what is said of it helps."""

from pathlib import Path

import pytest

from tests.runtime.conftest import running
from tests.runtime.programs import SERVER, idler, system_of
from watertight.model.system import Listen, Protocol, Service
from watertight.runtime import starting
from watertight.runtime.capabilities import HostCapabilities
from watertight.runtime.starting import NotReadyError, Patience

HTTP = Listen(Protocol.HTTP, 8081)
LONG_SECONDS = 100.0
"""Nothing here may take as long: what is given up is given up before the deadline."""
TWICE = """
import os, pathlib, sys
tried = pathlib.Path(os.environ["WATERTIGHT_DATA"], "tried")
times = len(tried.read_text()) if tried.exists() else 0
tried.write_text("x" * (times + 1))
if times < 2: sys.exit("not yet")
"""


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is judged after a while is judged sooner, or these tests would only wait."""
    monkeypatch.setattr(starting, "CRASHING_SECONDS", 0.3)
    monkeypatch.setattr(starting, "WRONG_SECONDS", 0.3)


def python(name: str, script: str, *arguments: str, ready: str | None = None) -> Service:
    return Service(name, ("python", "-c", script, *arguments), listens=HTTP, ready=ready)


async def failure(
    home: Path, capabilities: HostCapabilities, service: Service, patience: Patience
) -> NotReadyError:
    """What is said of a service that does not come up."""
    async with running(home, system_of(service), capabilities) as host:
        await host.supervisor.start_pod(host.pods[service.name])
        await host.supervisor.start_process(service.name, "app")
        with pytest.raises(NotReadyError) as caught:
            await host.supervisor.wait_ready(
                service.name, "app", deadline_seconds=LONG_SECONDS, patience=patience
            )
    return caught.value


@pytest.mark.parametrize(
    ("script", "says", "remedy"),
    [
        ("import sys; sys.exit('no such luck')", "exit status 1. It said last:\n    no such", ""),
        ("import flsk", "exit status 1", "install `flsk` there"),
        (
            "import os; os.kill(os.getpid(), 9)",
            "last killed by SIGKILL. It said nothing.",
            "memory",
        ),
        ("import os; os.environ['DATABASE_URL']", "exit status 1", "`watertight env`"),
        ("print('bye')", "exit status 0. It said last:\n    bye", "stays in the foreground"),
        ("open('mine', 'w')", "exit status 1", "$WATERTIGHT_DATA"),
    ],
)
async def test_what_ends_again_and_again_is_told_with_its_last_words(
    home: Path, capabilities: HostCapabilities, script: str, says: str, remedy: str
) -> None:
    said = await failure(home, capabilities, python("orders", script), Patience())
    assert said.message.startswith("orders does not start: it ended ")
    assert says in said.message
    assert remedy in said.remedy
    assert str(home / "project" / ".watertight" / "logs" / "orders.app.log") in said.remedy
    words = said.message.partition("It said last:\n")[2].splitlines()
    assert len(words) == len(set(words)), "what it says at each start stands there once"


async def test_what_listens_elsewhere_is_told_where(
    home: Path, capabilities: HostCapabilities
) -> None:
    told: list[str] = []
    service = python("orders", SERVER, "9001", "orders")
    said = await failure(home, capabilities, service, Patience(tell=told.append))
    assert "it listens on 127.0.0.1:9001, and not on 127.0.0.1:8081 as it declares" in said.message


async def test_a_private_port_is_not_where_it_should_not_listen(
    home: Path, capabilities: HostCapabilities, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(starting, "TELL_SECONDS", 0.3)
    told: list[str] = []
    service = python("orders", SERVER, "9001", "orders")
    async with running(home, system_of(service), capabilities) as host:
        await host.supervisor.start_pod(host.pods["orders"])
        await host.supervisor.start_process("orders", "app")
        patience = Patience(private_ports=(9001,), tell=told.append)
        with pytest.raises(NotReadyError, match=r"after 2.5 s: nothing accepts on its port"):
            await host.supervisor.wait_ready(
                "orders", "app", deadline_seconds=2.5, patience=patience
            )
    assert told == ["orders is not ready yet: nothing accepts on its port."]


async def test_a_readiness_path_that_is_not_there_is_told(
    home: Path, capabilities: HostCapabilities
) -> None:
    script = "import http.server; http.server.test(http.server.SimpleHTTPRequestHandler, port=8081)"
    service = python("orders", script, ready="/healthz")
    said = await failure(home, capabilities, service, Patience())
    assert "orders is not ready: /healthz answers 404" in said.message


async def test_what_fails_twice_and_then_serves_is_ready(
    home: Path, capabilities: HostCapabilities
) -> None:
    service = python("orders", TWICE + SERVER, "8081", "orders")
    async with running(home, system_of(service), capabilities) as host:
        await host.up("orders", "app")


async def test_whose_fault_it_is_not_is_waited_for(
    home: Path, capabilities: HostCapabilities
) -> None:
    """It ends as often as it likes while it is excused."""
    asked: list[int] = []

    def excused(ended: int) -> bool:
        asked.append(ended)
        return ended < 4

    said = await failure(
        home, capabilities, python("orders", "raise SystemExit(3)"), Patience(excused=excused)
    )
    times = int(said.message.split("it ended ")[1].split()[0])
    assert times >= 4 - 1 + starting.CRASHES
    assert max(asked) >= 4


async def test_a_caller_that_ends_at_once_does_not_count_as_running(
    home: Path, capabilities: HostCapabilities
) -> None:
    """It listens nowhere, so nothing but its running on tells that it runs."""
    worker = idler("worker", "import time; time.sleep(0.05); raise SystemExit(7)")
    said = await failure(home, capabilities, worker, Patience(steady_seconds=0.5))
    assert "last with exit status 7" in said.message
    async with running(home, system_of(idler("worker")), capabilities) as host:
        await host.supervisor.start_pod(host.pods["worker"])
        await host.supervisor.start_process("worker", "app")
        await host.supervisor.wait_ready(
            "worker", "app", deadline_seconds=20, patience=Patience(steady_seconds=0.2)
        )
