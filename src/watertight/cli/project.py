"""Where a command finds the declaration, and the system that runs for it."""

from pathlib import Path
from typing import Annotated

import typer

from watertight.control.client import ADMIN_SOCKET, AdminClient
from watertight.errors import ExitCode, WatertightError
from watertight.runtime.files import STATE_DIRECTORY
from watertight.runtime.runs import run_directory

FileArgument = Annotated[
    Path,
    typer.Argument(help="The declaration, or the folder it stands in.", show_default=True),
]
FileOption = Annotated[
    Path, typer.Option("--file", "-f", help="The declaration, or the folder it stands in.")
]
DEFAULT_FILE = Path("watertight.yaml")


class NoDeclaration(WatertightError):
    """There is no declaration where we were told to look."""

    exit_code = ExitCode.MISUSE


def find_declaration(path: Path) -> Path:
    """The declaration itself, given it or its folder. Raises NoDeclaration."""
    file = path / DEFAULT_FILE if path.is_dir() else path
    if not file.is_file():
        raise NoDeclaration(
            f"There is no declaration at {file}.",
            remedy="Write one with `watertight init`, or name it.",
        )
    return file


def find_project(path: Path) -> Path:
    """The folder of a declaration, resolved. The declaration itself may be gone or another one.

    Raises NoDeclaration where none is and none was.
    """
    folder = path if path.is_dir() else path.parent
    if not (folder / STATE_DIRECTORY).is_dir():
        find_declaration(path)
    return folder.resolve()


def admin_client(path: Path) -> AdminClient:
    """A client of the system that runs in this declaration's folder (it need not run)."""
    project = find_project(path)
    return AdminClient(run_directory(project) / ADMIN_SOCKET, project)
