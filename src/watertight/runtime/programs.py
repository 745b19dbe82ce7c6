"""Finds a program, and the directories that must be visible for it to run.

An interpreter often lies where another user may not look (a virtual environment built on one under
a 0700 home): a view shows just the prefixes it needs, and the home stays hidden.
"""

import difflib
import os
import shutil
import stat
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from watertight.errors import WatertightError
from watertight.model.nearest import did_you_mean_beside
from watertight.model.system import Position

_MOST_LINKS = 40  # as the kernel's own limit, path_resolution(7)
_MOST_INTERPRETERS = 4
_MOST_SHOWN = 6
"""Directories of a search path that an error lists."""
_NEAR = 0.8
"""Of 1. There are thousands of programs, and some name is a little like any other."""


class ProgramNotFoundError(WatertightError):
    """What ``run`` names is not there."""

    def __init__(self, name: str, at: Position, why: str, remedy: str) -> None:
        self.what = f"no program `{name}` can be run: {why}"
        super().__init__(f"{at}: {self.what}.", remedy=remedy)


def search_path(environment: Mapping[str, str]) -> str:
    """Beside the interpreter that runs us, then where the shell looks."""
    theirs = environment.get("PATH", "") or os.defpath
    # An activated virtual environment stands in front of the shell's already.
    return os.pathsep.join(dict.fromkeys((_beside_us(), *theirs.split(os.pathsep))))


def _beside_us() -> str:
    return str(Path(sys.prefix) / "bin")


def find_program(name: str, directory: Path, path: str, at: Position) -> Path:
    """The absolute path of the program that ``run`` begins with.

    Raises :class:`ProgramNotFoundError`.
    """
    if "/" in name:
        found = directory / name
        if (why := _unfit(found, name)) is not None:
            raise ProgramNotFoundError(name, at, *why)
        return _without_links_before(found)
    where = shutil.which(name, path=path)
    if where is None:
        raise ProgramNotFoundError(name, at, *_not_on_the_path(name, directory, path))
    if (why := _unfit(Path(where), name)) is not None:
        raise ProgramNotFoundError(name, at, *why)
    return _without_links_before(Path(where))


def _unfit(program: Path, declared: str) -> tuple[str, str] | None:
    """Why a file cannot be run, and what to do; None if nothing speaks against it."""
    try:
        mode = program.stat().st_mode
    except FileNotFoundError:
        beside = _names_in(program.parent)
        if beside is None:
            return f"the directory {program.parent} is not there", "Correct the path."
        return f"there is no file {program}", did_you_mean_beside(
            declared, beside
        ) or "Correct the path."
    except OSError as error:
        return f"{program} cannot be looked at: {error.strerror}", "Let its path be read."
    if stat.S_ISDIR(mode):
        return f"{program} is a directory", "Name the program in it."
    if not os.access(program, os.X_OK):
        return f"{program} may not be executed", f"Allow it: chmod +x {program}"
    interpreter = _interpreter_of(program)
    if interpreter is not None and not interpreter.exists():
        return (
            f"its first line asks for {interpreter}, which is not there",
            "Install that, or correct the line that begins with `#!`.",
        )
    return None


def _not_on_the_path(name: str, directory: Path, path: str) -> tuple[str, str]:
    searched = [entry for entry in path.split(os.pathsep) if entry]
    shown = ", ".join(searched[:_MOST_SHOWN]) + (" …" if len(searched) > _MOST_SHOWN else "")
    if (directory / name).is_file():
        remedy = f"There is a file of that name in {directory}: write `./{name}`."
    else:
        known = (found for entry in searched for found in _names_in(Path(entry)) or ())
        near = difflib.get_close_matches(name, sorted(set(known)), n=1, cutoff=_NEAR)
        hint = f"Did you mean `{near[0]}`? Else install" if near else "Install"
        remedy = f"{hint} it, or give `run` a path; `python` is the one that runs watertight."
    return f"looked in {shown}", remedy


def _names_in(directory: Path) -> list[str] | None:
    try:
        return os.listdir(directory)  # noqa: PTH208 - thousands of names, and no need of paths
    except OSError:
        return None


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
