"""Files and directories that nobody else may have prepared for us."""

import os
import shutil
import stat
from collections.abc import Mapping
from pathlib import Path

from watertight.errors import WatertightError

STATE_DIRECTORY = ".watertight"
"""Beside the declaration: what we keep about its system."""
_IGNORED = b"# Keys, databases and logs of the system beside: none of it is to be committed.\n*\n"
"""gitignore(5); the file ignores itself, too."""


class UntrustedDirectoryError(WatertightError):
    """A directory that another user made, or may change."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(
            f"{path} cannot be trusted: {why}.",
            remedy="Run watertight as its owner, or look what it is and remove it.",
        )


def own_directory(path: Path, mode: int = 0o700) -> Path:
    """Makes ``path``, or takes it if it is a directory of ours that nobody else can write.

    The parent must exist. Raises :class:`UntrustedDirectoryError` for a symbolic link, another
    owner, or foreign write access.
    """
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        require_own(path)
    path.chmod(mode)
    return path


def require_own(path: Path) -> None:
    """Raises :class:`UntrustedDirectoryError` if it is there, and no directory of ours alone."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(found.st_mode):
        raise UntrustedDirectoryError(path, "it is not a directory")
    if found.st_uid != os.geteuid():
        raise UntrustedDirectoryError(path, f"it belongs to user {found.st_uid}")
    if stat.S_IMODE(found.st_mode) & 0o022:
        raise UntrustedDirectoryError(path, "others may write in it")


def own_state(project: Path) -> Path:
    """The state directory of the project, made if it is not there, which git passes over.

    There are private keys in it, and databases: `git add .` must not take them. A `.gitignore`
    that is there already is left as it is. Raises :class:`UntrustedDirectoryError`.
    """
    state = own_directory(project / STATE_DIRECTORY)
    if not os.path.lexists(state / ".gitignore"):
        write_atomically(state / ".gitignore", _IGNORED)
    return state


def given_directory(path: Path, owner: tuple[int, int] | None, mode: int) -> Path:
    """A directory in one of ours that belongs to the user of one process (None: to us)."""
    path.mkdir(mode=0o700, exist_ok=True)
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        if owner is not None:
            os.fchown(descriptor, *owner)
        os.fchmod(descriptor, mode)
    finally:
        os.close(descriptor)
    return path


def write_atomically(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Readers see the old content or the new one; on disk before it counts."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(file.fileno(), mode)
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def hold_exactly(directory: Path, files: Mapping[str, str]) -> tuple[str, ...]:
    """Makes a directory hold these files and nothing else: which changed or went.

    Each is swapped in whole, and anybody who gets there may read it.
    """
    changed = []
    for path in sorted(directory.iterdir()):
        if path.name not in files:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
            changed.append(path.name)
    for name, text in files.items():
        path = directory / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            write_atomically(path, text.encode(), 0o644)
            changed.append(name)
    return tuple(changed)
