"""Where a command finds the declaration, and the system that runs for it."""

import inspect
import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, ParamSpec, TypeVar, cast

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
_OPTION = "named"
_CONTEXT = "context"
_AlsoOption = Annotated[
    Path | None, typer.Option("--file", "-f", help="The same, as the other commands take it.")
]
P = ParamSpec("P")
R = TypeVar("R")


class TwoFiles(WatertightError):
    """A command was told of two declarations."""

    exit_code = ExitCode.MISUSE


def takes_file(command: Callable[P, R]) -> Callable[P, R]:
    """Gives a command whose argument is ``file`` the option ``--file`` too, as the others have it.

    Raises TwoFiles where both are given and differ.
    """
    signature = inspect.signature(command)
    keyword_only = inspect.Parameter.KEYWORD_ONLY
    more = [
        inspect.Parameter(_OPTION, keyword_only, default=None, annotation=_AlsoOption),
        inspect.Parameter(_CONTEXT, keyword_only, annotation=typer.Context),
    ]

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        option, context = kwargs.pop(_OPTION, None), kwargs.pop(_CONTEXT, None)
        if isinstance(option, Path):
            argument = kwargs.get("file")
            if (
                isinstance(argument, Path)
                and context is not None
                and _was_typed(cast("typer.Context", context), "file")
                and os.path.realpath(_file_in(option)) != os.path.realpath(_file_in(argument))
            ):
                raise TwoFiles(
                    f"Two declarations are named: {argument}, and {option} by --file.",
                    remedy="Name one.",
                )
            kwargs["file"] = option
        return command(*args, **kwargs)

    parameters = [*signature.parameters.values(), *more]
    run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {
        **command.__annotations__,
        _OPTION: _AlsoOption,
        _CONTEXT: typer.Context,
    }
    return run


def _was_typed(context: typer.Context, parameter: str) -> bool:
    source = context.get_parameter_source(parameter)
    return source is not None and source.name == "COMMANDLINE"


class NoDeclaration(WatertightError):
    """There is no declaration where we were told to look."""

    exit_code = ExitCode.MISUSE


def find_declaration(path: Path) -> Path:
    """The declaration itself, given it or its folder. Raises NoDeclaration."""
    file = _file_in(path)
    if not file.is_file():
        raise NoDeclaration(
            f"There is no declaration at {file}.",
            remedy="Write one with `watertight init`, or name it.",
        )
    return file


def _file_in(path: Path) -> Path:
    return path / DEFAULT_FILE if path.is_dir() else path


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
