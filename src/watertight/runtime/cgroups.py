"""Budgets that the kernel holds: control groups that bound memory and the number of tasks.

Version 2 where it has the two controllers, else version 1, which only root may use. Without root,
version 2 takes delegation: who starts ``watertight up`` in a unit with ``Delegate=yes`` has it
(``systemd-run --user --scope -p Delegate=yes …``). A group is made for a workload's program, and
another one for each that the operator runs beside it (the prober's agents), so that a proof that
uses a budget up takes nothing from the program.

Sources: cgroups(7); admin-guide/cgroup-v2.rst, "Delegation", "Memory", "PID";
admin-guide/cgroup-v1/memory.rst; systemd.io/CGROUP_DELEGATION.
"""

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

from watertight.errors import WatertightError

_CONTROLLERS = ("memory", "pids")
_PROCESSES = "cgroup.procs"
_LEAF = "watertight-control"
_TRIAL_BYTES = 64 << 20
_NEW_SECONDS = 60.0
_GONE_SECONDS = 1.0
"""A group can be removed only once the kernel has seen the end of its last process."""


class BudgetError(WatertightError):
    """A control group could not be made or changed."""

    def __init__(self, group: Path, error: OSError) -> None:
        super().__init__(
            f"The control group {group} cannot be set up: {error.strerror}.",
            remedy="Look whether somebody else manages that part of /sys/fs/cgroup.",
        )


def find() -> tuple[Path, ...]:
    """The directories in which we can bound memory and processes; () if there are none.

    Tries: makes a group, bounds it, removes it. Version 2: one directory; version 1: two.
    """
    own = dict(_own())
    for candidate in _candidates(own):
        with contextlib.suppress(OSError, BudgetError):
            _delegate(candidate)
            trial = [top / f"watertight-trial-{os.getpid()}" for top in candidate]
            try:
                _make(trial, _TRIAL_BYTES, 16)
            finally:
                _remove(trial)
            return candidate
    return ()


class Cgroups:
    """The groups of one system. ``tops`` are what :func:`find` found; none: nothing is bounded."""

    def __init__(self, tops: Sequence[Path], system: str) -> None:
        self._tops = tuple(top / f"watertight-{system}" for top in tops)

    @classmethod
    def beside(cls, groups: Sequence[str]) -> Self:
        """Those of the system that a budget is of, whoever made it: ``groups`` are its own."""
        found = cls((), "")
        found._tops = tuple(Path(group).parent for group in groups)
        return found

    def __bool__(self) -> bool:
        return bool(self._tops)

    def groups(self, name: str) -> list[str]:
        """The directories of one budget."""
        return [str(top / name) for top in self._tops]

    def make(self, name: str, memory_bytes: int, processes: int) -> None:
        """Makes a budget, or changes it. Raises :class:`BudgetError`."""
        if not self._tops:
            return
        for top in self._tops:
            try:
                top.mkdir(exist_ok=True)
                _enable(top)
            except OSError as error:
                raise BudgetError(top, error) from error
        _make([top / name for top in self._tops], memory_bytes, processes)

    def remove(self, name: str) -> None:
        """Removes a budget in which nothing runs any more; one that is not there is no error."""
        _remove([top / name for top in self._tops])

    def tidy(self, prefix: str) -> None:
        """Removes the budgets whose name begins so and in which nothing runs any more.

        A new one may be about to be joined, and stays.
        """
        before = time.time() - _NEW_SECONDS
        for top in self._tops:
            for group in top.glob(f"{prefix}*"):
                with contextlib.suppress(OSError):
                    if group.stat().st_mtime < before:
                        group.rmdir()

    def leave(self) -> None:
        """Removes what holds the system's budgets, once there are none."""
        for top in self._tops:
            with contextlib.suppress(OSError):
                top.rmdir()

    def remove_all(self) -> None:
        """Removes what is left of the system."""
        for top in self._tops:
            if top.is_dir():
                _remove([group for group in top.iterdir() if group.is_dir()])
        _remove(self._tops)


def join(groups: Sequence[str]) -> None:
    """Moves this process, and all that it starts, into a budget. Raises :class:`BudgetError`."""
    for group in groups:
        try:
            (Path(group) / _PROCESSES).write_text("0", encoding="ascii")
        except OSError as error:
            raise BudgetError(Path(group), error) from error


def _candidates(own: dict[str, Path]) -> Iterator[tuple[Path, ...]]:
    mounts = dict(_mounts())
    if (unified := mounts.get("")) is not None:
        # Below our own group, if it is ours to divide: what bounds us then bounds all of it.
        yield (unified / own.get("", Path()),)
        if os.geteuid() == 0:
            yield (unified,)
    if os.geteuid() == 0 and all(name in mounts for name in _CONTROLLERS):
        nested = tuple(mounts[name] / own.get(name, Path()) for name in _CONTROLLERS)
        yield nested if all(map(Path.is_dir, nested)) else tuple(mounts[n] for n in _CONTROLLERS)


def _mounts() -> Iterator[tuple[str, Path]]:
    """Controller → where its hierarchy is mounted; ``""``: the unified one (proc(5), mountinfo)."""
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
        fields, _, source = line.partition(" - ")
        kind, _, options = source.split(" ", 2)
        where = Path(fields.split()[4])
        if kind == "cgroup2":
            yield "", where
        elif kind == "cgroup":
            for name in set(options.split(",")) & set(_CONTROLLERS):
                yield name, where


def _own() -> Iterator[tuple[str, Path]]:
    """Controller → the group that we are in, relative to its mount (cgroups(7))."""
    for line in Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines():
        _, names, path = line.split(":", 2)
        for name in names.split(","):
            yield name, Path(path.lstrip("/"))


def _is_unified(directory: Path) -> bool:
    return (directory / "cgroup.controllers").exists()


def _delegate(candidate: tuple[Path, ...]) -> None:
    """Makes the controllers of a unified hierarchy known to what is below ``candidate``."""
    (top,) = candidate if len(candidate) == 1 else (None,)
    if top is None:
        return
    try:
        _enable(top)
    except OSError:
        # A group that hands controllers down holds no process itself. That of a delegated unit
        # is ours to arrange: who is in it moves one down.
        if not _is_delegated(top):
            raise
        leaf = top / _LEAF
        leaf.mkdir(exist_ok=True)
        for pid in (top / _PROCESSES).read_text(encoding="ascii").split():
            (leaf / _PROCESSES).write_text(pid, encoding="ascii")
        _enable(top)


def _is_delegated(top: Path) -> bool:
    """As systemd marks it."""
    for name in ("user.delegate", "trusted.delegate"):
        with contextlib.suppress(OSError):
            if os.getxattr(top, name) == b"1":
                return True
    return False


def _enable(top: Path) -> None:
    if _is_unified(top):
        wanted = " ".join(f"+{name}" for name in _CONTROLLERS)
        (top / "cgroup.subtree_control").write_text(wanted, encoding="ascii")


def _make(groups: Sequence[Path], memory_bytes: int, processes: int) -> None:
    for group in groups:
        try:
            group.mkdir(exist_ok=True)
            _bound(group, memory_bytes, processes)
        except OSError as error:
            raise BudgetError(group, error) from error


def _bound(group: Path, memory_bytes: int, processes: int) -> None:
    if (group / "pids.max").exists():
        (group / "pids.max").write_text(str(processes), encoding="ascii")
    if (group / "memory.max").exists():
        (group / "memory.max").write_text(str(memory_bytes), encoding="ascii")
        _write_if_there(group / "memory.swap.max", "0")
    elif (group / "memory.limit_in_bytes").exists():
        # Memory and swap together is never the smaller of the two, also on the way.
        for _ in range(2):
            with contextlib.suppress(OSError):
                _write_if_there(group / "memory.memsw.limit_in_bytes", str(memory_bytes))
            with contextlib.suppress(OSError):
                _write_if_there(group / "memory.limit_in_bytes", str(memory_bytes))
        _write_if_there(group / "memory.limit_in_bytes", str(memory_bytes))
        _write_if_there(group / "memory.memsw.limit_in_bytes", str(memory_bytes))
        # Version 2 counts the buffers of TCP as memory; here they are counted apart, if at all.
        _write_if_there(group / "memory.kmem.tcp.limit_in_bytes", str(memory_bytes))


def _write_if_there(path: Path, text: str) -> None:
    if path.exists():
        path.write_text(text, encoding="ascii")


def _remove(groups: Sequence[Path]) -> None:
    deadline = time.monotonic() + _GONE_SECONDS
    for group in groups:
        while True:
            try:
                group.rmdir()
                break
            except FileNotFoundError:
                break
            except OSError:
                if time.monotonic() > deadline:
                    break
                time.sleep(0.01)
