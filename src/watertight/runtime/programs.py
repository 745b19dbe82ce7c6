"""Finds a program, and the directories that must be visible for it to run.

An interpreter often lies where another user may not look (a virtual environment built on one under
a 0700 home): a view shows just the prefixes it needs, and the home stays hidden.
"""

import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from watertight.errors import WatertightError
from watertight.model.system import Position

_MOST_LINKS = 40  # as the kernel's own limit, path_resolution(7)
_MOST_INTERPRETERS = 4


class ProgramNotFoundError(WatertightError):
    """What ``run`` names is not there."""

    def __init__(self, name: str, at: Position, searched: str) -> None:
        super().__init__(
            f"{at}: there is no program `{name}` (looked in {searched}).",
            remedy="Install it, or give `run` a path; `python` is the one that runs watertight.",
        )


def search_path(environment: Mapping[str, str]) -> str:
    """Beside the interpreter that runs us, then where the shell looks."""
    return os.pathsep.join(
        (str(Path(sys.prefix) / "bin"), environment.get("PATH", "") or os.defpath)
    )


def find_program(name: str, directory: Path, path: str, at: Position) -> Path:
    """The absolute path of the program that ``run`` begins with."""
    if "/" in name:
        found = directory / name
        if not os.access(found, os.X_OK) or found.is_dir():
            raise ProgramNotFoundError(name, at, str(found))
        return _without_links_before(found)
    where = shutil.which(name, path=path)
    if where is None:
        raise ProgramNotFoundError(name, at, path)
    return _without_links_before(Path(where))


def _without_links_before(path: Path) -> Path:
    """Resolves the directory and keeps the last name: a venv's ``python`` is not its target."""
    return path.parent.resolve() / path.name


def needed_by(program: Path) -> tuple[Path, ...]:
    """The directories and files that must be visible to run ``program``."""
    return tuple(dict.fromkeys(_needed(program, _MOST_INTERPRETERS)))


def _needed(program: Path, depth: int) -> Iterator[Path]:
    last = program
    for last in _links(program):
        yield from _shown_with(last)
    interpreter = _interpreter_of(last)
    if interpreter is not None and depth:
        yield from _needed(interpreter, depth - 1)


def _links(path: Path) -> Iterator[Path]:
    """The path and every link on the way to the file, each as it is written."""
    for _ in range(_MOST_LINKS):
        yield path
        if not path.is_symlink():
            return
        path = Path(os.path.normpath(path.parent.resolve() / path.readlink()))


def _shown_with(program: Path) -> Iterator[Path]:
    prefix = program.parent.parent
    configuration = prefix / "pyvenv.cfg"
    if configuration.is_file():
        yield prefix
        home = _home_of(configuration)
        if home is not None:
            yield home.parent
            yield from _links_above(home.parent)
        yield from _path_files(prefix)
    elif program.parent.name == "bin" and (prefix / "lib").is_dir() and not _is_personal(prefix):
        yield prefix
    else:
        yield program


def _links_above(path: Path) -> Iterator[Path]:
    resolved = path.resolve()
    if resolved != path:
        yield resolved


def _is_personal(prefix: Path) -> bool:
    """~ and ~/.local have a bin and a lib, and everything else that a person owns."""
    home = Path.home()
    return home == prefix or home.is_relative_to(prefix) or prefix == home / ".local"


def _home_of(configuration: Path) -> Path | None:
    """The ``home`` of pyvenv.cfg (PEP 405): the directory of the base interpreter."""
    for line in configuration.read_text(encoding="utf-8", errors="replace").splitlines():
        key, _, value = line.partition("=")
        if key.strip() == "home" and value.strip():
            return Path(value.strip())
    return None


def _path_files(prefix: Path) -> Iterator[Path]:
    """Directories that .pth files add (editable installs lie elsewhere; ``site`` module)."""
    for file in sorted(prefix.glob("lib/python3*/site-packages/*.pth")):
        for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
            added = Path(line.strip())
            if added.is_absolute() and added.is_dir():
                yield added


def _interpreter_of(script: Path) -> Path | None:
    """The program that ``#!`` names (execve(2)), through ``env`` if need be."""
    try:
        with script.open("rb") as file:
            first = file.readline(512)
    except OSError:
        return None
    if not first.startswith(b"#!"):
        return None
    words = first[2:].decode(errors="replace").split()
    if len(words) > 1 and Path(words[0]).name == "env":
        found = shutil.which(words[-1], path=search_path(os.environ))
        return Path(found) if found else None
    return Path(words[0]) if words else None
