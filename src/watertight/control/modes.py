"""Modes of what nobody else may open: looked at again and again, for a `chmod` by hand is quick.

Only directories of ours are looked into: where a process of the system may write, a link that it
left there would lead our `chmod` elsewhere. There the directory itself is what keeps others out.
"""

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import structlog

from watertight.control.client import ADMIN_SOCKET
from watertight.runtime.layout import Layout

log = structlog.get_logger(__name__)

KEPT_IN_SIGHT = frozenset({"ca.pem", "run"})
"""What is for everybody who may enter the directory."""


class Loose(NamedTuple):
    """Something that more people may open than should."""

    path: Path
    found: int
    right: int

    def __str__(self) -> str:
        return (
            f"{self.path} had mode {self.found:o} and not {self.right:o}: if others may have read "
            "it, rotate (`watertight rotate`)"
        )


def loose(layout: Layout) -> list[Loose]:
    """What has lost its mode now, of all that is there."""
    bounds: dict[Path, int] = {}
    for path, most in _kept(layout):
        bounds[path] = bounds.get(path, most) & most
    found = []
    for path, most in bounds.items():
        try:
            status = path.lstat()
        except OSError:
            continue
        mode = stat.S_IMODE(status.st_mode)
        if mode & ~most and not stat.S_ISLNK(status.st_mode):
            found.append(Loose(path, mode, mode & most))
    return found


def mend(layout: Layout) -> None:
    """Takes away what is too much, and logs it; what cannot be mended stays to be told."""
    for one in loose(layout):
        try:
            _set(one.path, one.right)
        except OSError as error:
            log.warning("mode_not_mended", path=str(one.path), reason=error.strerror)
        else:
            was, now = f"{one.found:o}", f"{one.right:o}"
            log.warning("mode_mended", path=str(one.path), was=was, now=now)


def _set(path: Path, mode: int) -> None:
    if stat.S_ISSOCK(path.lstat().st_mode):
        path.chmod(mode)  # none can be opened; the directory is ours
        return
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(path, flags)
    try:
        os.fchmod(descriptor, mode)
    finally:
        os.close(descriptor)


def _kept(layout: Layout) -> Iterator[tuple[Path, int]]:
    """Each path and the most that its mode may be."""
    state, run = layout.state, layout.run
    yield state, 0o700
    for path in _in(state):
        if path.name not in KEPT_IN_SIGHT:
            yield path, 0o700 if path.is_dir() else 0o600
    yield from _below(state / "authority", 0o700)
    yield from ((path, 0o600) for path in _in(layout.logs))
    yield run, 0o711
    yield run / ADMIN_SOCKET, 0o600
    yield from _below(run / "credentials", 0o711)
    yield from _below(run / "xds", 0o711, files=0o644)
    yield from ((path, 0o600) for path in (run / "xds").glob("*/ads.sock"))
    for path in _in(layout.pods):
        yield path, 0o700
    yield layout.pods, 0o700
    for name, most in (("proxies", 0o700), ("sockets", 0o700), ("mesh", 0o710)):
        yield from ((path, most) for path in _in(run / name))
    yield from ((path, 0o700) for path in _in(state / "data"))


def _below(directory: Path, directories: int, files: int = 0o600) -> Iterator[tuple[Path, int]]:
    yield directory, directories
    for root, names, others in os.walk(directory):
        yield from ((Path(root) / name, directories) for name in names)
        yield from ((Path(root) / name, files) for name in others)


def _in(directory: Path) -> list[Path]:
    try:
        return list(directory.iterdir())
    except OSError:
        return []
