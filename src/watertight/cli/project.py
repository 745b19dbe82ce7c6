"""Where a command finds the declaration, and the system that runs for it."""

from pathlib import Path
from typing import Annotated

import typer

from watertight.control.client import ADMIN_SOCKET, AdminClient
from watertight.errors import ExitCode, WatertightError
from watertight.runtime.files import STATE_DIRECTORY

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


def admin_client(path: Path) -> AdminClient:
    """A client of the system that runs for this declaration (it need not run)."""
    run = find_declaration(path).resolve().parent / STATE_DIRECTORY / "run"
    return AdminClient(run.resolve() / ADMIN_SOCKET)
