"""Each app starts once what it calls is ready, and waits for nothing else."""

import asyncio
from contextlib import nullcontext
from typing import cast

import pytest

from watertight.control.apps import Apps
from watertight.errors import WatertightError
from watertight.model.system import Channel, Listen, Protocol, Service, System
from watertight.runtime.states import PodStatus
from watertight.runtime.supervisor import Supervisor

LISTENS = Listen(Protocol.HTTP, 8000)


class Programs:
    """As much of a supervisor as starts programs; each is ready when the test says so."""

    def __init__(self, names: str) -> None:
        self.started: list[str] = []
        self.ready = {name: asyncio.Event() for name in names}
        self._begun = {name: asyncio.Event() for name in names}
        self.failing: set[str] = set()

    async def status(self) -> tuple[PodStatus, ...]:
        return ()

    async def start_process(self, pod: str, _process: str) -> None:
        self.started.append(pod)
        self._begun[pod].set()

    async def wait_ready(self, pod: str, _process: str, **_how: object) -> None:
        await self.ready[pod].wait()
        if pod in self.failing:
            raise WatertightError(f"{pod} is broken.")

    async def until_started(self, *names: str) -> None:
        async with asyncio.timeout(5):
            for name in names:
                await self._begun[name].wait()


@pytest.fixture(autouse=True)
def _no_port_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Apps, "_refuse_a_taken_port", lambda _self, _service: None)


def apps(programs: Programs) -> Apps:
    return Apps(cast("Supervisor", programs), lambda _words: None, lambda _name: nullcontext())


def system(*edges: tuple[str, str], names: str) -> System:
    return System(
        "shop",
        {name: Service(name, run=("program",), listens=LISTENS) for name in names},
        channels=tuple(Channel(source, target) for source, target in edges),
    )


async def test_who_calls_nothing_slow_waits_for_nothing_slow() -> None:
    """a calls b; c is slow and of no matter to them."""
    programs = Programs("abc")
    converging = asyncio.ensure_future(apps(programs).converge(system(("a", "b"), names="abc"), {}))
    await programs.until_started("b", "c")
    await asyncio.sleep(0.01)
    assert "a" not in programs.started
    programs.ready["b"].set()
    await programs.until_started("a")
    for event in programs.ready.values():
        event.set()
    await converging


async def test_who_uses_a_database_waits_for_it_and_others_do_not() -> None:
    programs, database = Programs("ab"), asyncio.Event()
    for event in programs.ready.values():
        event.set()
    declared = system(("a", "db"), names="ab")
    converging = asyncio.ensure_future(apps(programs).converge(declared, {"db": database}))
    await programs.until_started("b")
    await asyncio.sleep(0.01)
    assert programs.started == ["b"]
    database.set()
    await converging
    assert programs.started == ["b", "a"]


async def test_the_first_that_fails_ends_the_wait_for_all_others() -> None:
    programs = Programs("abc")
    programs.failing = {"b"}
    programs.ready["b"].set()
    with pytest.raises(WatertightError, match="b is broken"):
        async with asyncio.timeout(5):
            await apps(programs).converge(system(("a", "b"), names="abc"), {})
    assert "a" not in programs.started
