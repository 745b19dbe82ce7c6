"""The sandbox's probes: they hold inside a sandbox, and break where a wall of it is left out.

The sandbox is one of util-linux: the runtime's own is attacked where it is tested and in the
system tests. Without root it is made in a user namespace.
"""

import os
import shutil
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.dataplane.attacks.range import Range, firing_range, not_held
from tests.verify.live import arena_over
from watertight.attack.probe import Verdict
from watertight.dataplane.attacks import envoy_probes
from watertight.verify.prover import prove
from watertight.verify.results import Result

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(shutil.which("unshare") is None, reason="util-linux is not installed"),
]

WALLS = {
    "net": frozenset(
        {
            "isolation.interfaces",
            "isolation.host-port",
            "isolation.gateway-port",
            "reach.app-port",
        }
    ),
    "mount": frozenset({"isolation.doors", "isolation.control-sockets", "isolation.private-files"}),
    "pid": frozenset({"isolation.proxy-memory"}),
    "ipc": frozenset({"isolation.left-behind"}),
}
"""Namespace → the probes that break without it."""

SANDBOX_SABOTAGES = frozenset().union(*WALLS.values()) | {"reach.name"}
CALLER = "storefront"


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def target() -> AsyncIterator[Range]:
    async with firing_range() as running:
        yield running


def sandbox(hidden: Path, *, without: str = "", hosts: Path | None = None) -> list[str]:
    """A command that runs another one within its walls, or all but one."""
    kinds = [f"--{kind}" for kind in WALLS if kind != without]
    proc = ["--fork", "--kill-child", "--mount-proc"] if without != "pid" else []
    user = [] if os.geteuid() == 0 else ["--map-root-user"]
    script = "set -e\n"
    if without != "mount":
        script += f"mount -t tmpfs none {hidden}\n"
    if hosts is not None:
        script += f"mount --bind {hosts} /etc/hosts\n"
    return ["unshare", *user, *kinds, *proc, "sh", "-c", script + 'exec "$@"', "sh"]


async def attack(target: Range, wrapper: list[str], ids: frozenset[str]) -> tuple[Result, ...]:
    """What these probes see from inside ``CALLER``'s sandbox."""
    probes = [
        p
        for p in envoy_probes(target.mesh.system)
        if p.id in ids and p.channel.startswith(f"{CALLER} ->")
    ]
    async with arena_over(target.mesh, wrapper=wrapper) as arena:
        return (await prove(arena, probes)).results


async def test_all_hold_inside_a_sandbox(target: Range) -> None:
    wrapper = sandbox(target.mesh.placement.run_directory)
    results = await attack(target, wrapper, SANDBOX_SABOTAGES)
    assert not_held(results) == {}
    assert {r.id for r in results} == SANDBOX_SABOTAGES


@pytest.mark.parametrize("wall", WALLS)
async def test_without_a_wall_exactly_its_probes_break(target: Range, wall: str) -> None:
    if wall == "pid" and os.geteuid() != 0:
        pytest.skip("only root may open the memory of a process that is not its child")
    if wall == "net" and len(socket.if_nameindex()) < 2:
        pytest.skip("this host has no interface besides loopback")
    # What a namespace of processes needs of mounts is kept with it.
    wrapper = sandbox(target.mesh.placement.run_directory, without=wall)
    results = await attack(target, wrapper, SANDBOX_SABOTAGES)
    assert {r.id for r in results if r.verdict is Verdict.BROKEN} == WALLS[wall], results


async def test_a_name_that_leads_to_the_app_breaks_its_probe(target: Range, tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.1 mailer\n")
    hidden = target.mesh.placement.run_directory
    walls = {"a network of its own": "", "the host's network": "net"}
    broken = {}
    for name, without in walls.items():
        wrapper = sandbox(hidden, without=without, hosts=hosts)
        results = await attack(target, wrapper, frozenset({"reach.name"}))
        broken[name] = {pair for r in results if r.verdict is Verdict.BROKEN for pair in r.seen_on}
    assert broken == {
        "a network of its own": set(),
        "the host's network": {f"{CALLER} -> mailer"},
    }
