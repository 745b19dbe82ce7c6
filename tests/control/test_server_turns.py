"""One thing at a time: a server is applied, rotated, caught up with, or somebody is cut off."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from watertight.control import servers
from watertight.control.servers import Server, Servers, ServersWanted
from watertight.enforcers.contract import Applied
from watertight.enforcers.resource import ServerPlan, ServerProcess
from watertight.identity.keeper import SVIDKeeper
from watertight.model.system import NOWHERE, System
from watertight.runtime.supervisor import Supervisor


class Enforcer:
    """Notes what happens, and whether two things did at once."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self._busy = False

    @asynccontextmanager
    async def doing(self, what: str) -> AsyncIterator[None]:
        assert not self._busy
        self._busy = True
        await asyncio.sleep(0.02)
        self._busy = False
        self.done.append(what)
        yield

    async def apply(self, *_: object) -> Applied:
        async with self.doing("apply"):
            return Applied({}, ())

    async def rotate(self, *_: object) -> None:
        async with self.doing("rotate"):
            pass

    async def revoke(self, *_: object) -> int:
        async with self.doing("revoke"):
            return 1

    async def catch_up(self, *_: object) -> Sequence[str]:
        async with self.doing("catch up"):
            return ()

    async def waiting(self, *_: object) -> Sequence[str]:
        return ()


class Host:
    async def outlived(self) -> bool:
        return False


class Keeper:
    def is_revoked(self, _name: str) -> bool:
        return False


def server(grants: object) -> Server:
    return Server(ServerPlan("db", "some", 1, {}, grants, NOWHERE), ServerProcess(("/x",)))


async def test_a_renewal_and_a_revocation_wait_for_an_apply_and_what_comes_late_for_all(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What is granted late is not left out because a renewal has the server's turn."""
    enforcer, hooks = Enforcer(), list[Any]()

    def delivery(*given: Any) -> Delivery:
        hooks.append(given[3])
        return Delivery()

    monkeypatch.setattr(servers, "enforcer_of", lambda _plan: enforcer)
    monkeypatch.setattr(servers, "FileDelivery", delivery)
    ours = Servers(cast("Supervisor", Machine(tmp_path)), cast("SVIDKeeper", Keeper()))
    monkeypatch.setattr(ours, "host", lambda _server, **_: Host())
    wanted = ServersWanted(System("shop"), {"db": server("a")}, {})
    await ours.apply(wanted)
    [rotate] = hooks
    less = ServersWanted(System("shop"), {"db": server("b")}, {})
    await asyncio.gather(ours.apply(wanted), rotate(), ours.revoke(less, "orders"))
    assert sorted(enforcer.done) == ["apply", "apply", "revoke", "rotate"]
    await asyncio.gather(rotate(), ours.catch_up())
    assert enforcer.done[4:] == ["rotate", "catch up"]


class Delivery:
    async def deliver(self) -> bool:
        return True


class Layout:
    def __init__(self, base: Path) -> None:
        self.placement = self
        self._base = base

    def owner_of_app(self, _name: str) -> None:
        return None

    def credentials(self, name: str) -> Path:
        return self._base / name / "current"


class Machine:
    def __init__(self, base: Path) -> None:
        self.layout: Any = Layout(base)
