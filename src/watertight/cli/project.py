"""Where a command finds the declaration, and what it refuses before anything else runs."""

from pathlib import Path
from typing import Annotated

import typer

from watertight.control.client import ADMIN_SOCKET, AdminClient
from watertight.enforcers.registry import resource_enforcers, resource_flaws
from watertight.errors import ExitCode, WatertightError
from watertight.model.findings import DeclarationError, Finding, Severity
from watertight.model.lint import lint
from watertight.model.load import load_file, locator
from watertight.model.system import System
from watertight.runtime.layout import STATE_DIRECTORY

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


def load_checked(path: Path) -> tuple[System, tuple[Finding, ...]]:
    """The declared system and the warnings. Raises DeclarationError if any finding is an error."""
    file = find_declaration(path)
    system = load_file(file)
    findings = lint(
        system,
        resource_kinds=resource_enforcers(),
        more=resource_flaws(system),
        locate=locator(file),
    )
    if any(finding.severity is Severity.ERROR for finding in findings):
        raise DeclarationError(findings)
    return system, tuple(findings)


def admin_client(path: Path) -> AdminClient:
    """A client of the system that runs for this declaration (it need not run)."""
    run = find_declaration(path).resolve().parent / STATE_DIRECTORY / "run"
    return AdminClient(run.resolve() / ADMIN_SOCKET)
