"""``python -m tests.runtime.as_nobody ARGUMENT…``: python, started as an ordinary user.

Started by root, it becomes the user nobody, in a mount namespace of its own in which an interpreter
under root's 0700 home can be reached (and nothing else of that home).
"""

import os
import sys
import tempfile
from pathlib import Path

from watertight.runtime import linux
from watertight.runtime.linux import MountFlag, Namespace

NOBODY = 65534
_BIND = MountFlag.BIND | MountFlag.RECURSIVE


def _closed(path: Path) -> Path | None:
    """The topmost directory above ``path`` that an ordinary user cannot pass through."""
    above = [p for p in reversed(path.parents) if not p.stat().st_mode & 0o001]
    return above[0] if above else None


def _open_up(needed: list[Path]) -> None:
    """Replaces each closed directory by one that holds only what is needed of it."""
    linux.unshare(Namespace.MOUNT)
    linux.mount("none", Path("/"), flags=MountFlag.RECURSIVE | MountFlag.PRIVATE)
    stage = Path(tempfile.mkdtemp(prefix="wt-stage-"))
    linux.mount("stage", stage, "tmpfs")
    closed = {path: _closed(path) for path in needed}
    for number, path in enumerate(needed):
        (stage / str(number)).mkdir()
        linux.mount(path, stage / str(number), flags=_BIND)
    for directory in {d for d in closed.values() if d}:
        linux.mount("opened", directory, "tmpfs", 0, "mode=0755")
    for number, path in enumerate(needed):
        if closed[path]:
            path.mkdir(parents=True, exist_ok=True)
            linux.mount(stage / str(number), path, flags=_BIND)
    linux.detach(stage)
    stage.rmdir()


def main() -> None:
    """Does not return."""
    repository = Path(__file__).resolve().parents[2]
    _open_up(list(dict.fromkeys([Path(sys.base_prefix), Path(sys.prefix), repository])))
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    environment = os.environ | {"HOME": "/nonexistent", "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("XDG_RUNTIME_DIR", None)
    os.chdir(repository)
    os.execve(sys.executable, [sys.executable, *sys.argv[1:]], environment)  # noqa: S606


if __name__ == "__main__":
    main()
