"""Control groups: where they can be had. What they hold is tried in test_limits.py.

The rules of version 2 (no process in a group that hands controllers down; delegation) are tried on
the kernel's own hierarchy, with whichever controller is left to it on this host.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from watertight.runtime import cgroups
from watertight.runtime.cgroups import BudgetError, Cgroups, find

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root may make control groups here"),
]
_SLEEPER = "import sys, time; print('up', flush=True); sys.stdin.read()"


@pytest.fixture
def unified() -> Path:
    """Where version 2 is mounted, if it has a controller that version 1 has not."""
    top = dict(cgroups._mounts()).get("")
    if top is None or not (top / "cgroup.controllers").read_text().split():
        pytest.skip("there is no control group of version 2 with a controller")
    return top


@pytest.fixture
def unit(unified: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A group of version 2 with one process in it, as a service manager makes them."""
    controller = (unified / "cgroup.controllers").read_text().split()[0]
    monkeypatch.setattr(cgroups, "_CONTROLLERS", (controller,))
    before = (unified / "cgroup.subtree_control").read_text().split()
    (unified / "cgroup.subtree_control").write_text(f"+{controller}")
    unit = unified / f"wt-test-{os.getpid()}"
    unit.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-c", _SLEEPER], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    (unit / "cgroup.procs").write_text(str(process.pid))
    try:
        yield unit
    finally:
        process.communicate(b"")
        cgroups._remove([*(d for d in unit.iterdir() if d.is_dir()), unit])
        if controller not in before:
            (unified / "cgroup.subtree_control").write_text(f"-{controller}")


def test_a_group_that_is_not_ours_to_divide_is_left_as_it_is(unit: Path) -> None:
    with pytest.raises(OSError, match="busy"):
        cgroups._delegate((unit,))
    assert (unit / "cgroup.procs").read_text().split()


def test_a_delegated_group_is_divided(unit: Path) -> None:
    """Who was in it is moved down; then it hands its controllers to what we make."""
    os.setxattr(unit, "user.delegate", b"1")
    before = (unit / "cgroup.procs").read_text()
    cgroups._delegate((unit,))
    assert (unit / "cgroup.procs").read_text() == ""
    assert (unit / "watertight-control" / "cgroup.procs").read_text() == before
    budgets = Cgroups((unit,), "x")
    budgets.make("orders", 64 << 20, 16)
    (group,) = budgets.groups("orders")
    assert (Path(group) / "cgroup.controllers").read_text().split() == [*cgroups._CONTROLLERS]
    budgets.remove_all()
    assert not Path(group).parent.exists()


def test_limits_are_written_and_changed_either_way() -> None:
    tops = find()
    if not tops:
        pytest.skip("there is no control group that we may divide")
    budgets = Cgroups(tops, f"test-{os.getpid()}")
    names = ("memory.max", "memory.limit_in_bytes")
    try:
        for memory_bytes, processes in ((64 << 20, 16), (32 << 20, 8), (128 << 20, 32)):
            budgets.make("orders", memory_bytes, processes)
            groups = [Path(group) for group in budgets.groups("orders")]
            held = [g / n for g in groups for n in names if (g / n).exists()]
            assert {path.read_text().strip() for path in held} == {str(memory_bytes)}
            counted = [g / "pids.max" for g in groups if (g / "pids.max").exists()]
            assert {path.read_text().strip() for path in counted} == {str(processes)}
    finally:
        budgets.remove_all()


def test_a_group_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "watertight-x").write_text("in the way")
    with pytest.raises(BudgetError, match="cannot be set up"):
        Cgroups((tmp_path,), "x").make("orders", 1 << 20, 4)


def test_who_cannot_join_does_not_start_unbounded(tmp_path: Path) -> None:
    with pytest.raises(BudgetError, match="cannot be set up"):
        cgroups.join([str(tmp_path / "gone")])


def test_another_part_of_the_tree_finds_the_budgets_of_a_pod(tmp_path: Path) -> None:
    """Whoever runs `verify` may be in another group than who ran `up`."""
    mine, theirs = Cgroups((tmp_path / "mine",), "x"), Cgroups((tmp_path / "theirs",), "x")
    found = Cgroups.beside(theirs.groups("orders"))
    assert found.groups("orders.guest") == theirs.groups("orders.guest")
    assert found.groups("orders.guest") != mine.groups("orders.guest")
    assert not Cgroups.beside([])
