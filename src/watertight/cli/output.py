"""How the command speaks: results on stdout, all else on stderr, one error shape, exit codes."""

import json
import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, ParamSpec, TypeVar

import typer
from rich.console import (
    Console,
    ConsoleOptions,
    ConsoleRenderable,
    RenderHook,
    RenderResult,
)
from rich.markup import escape
from rich.table import Table

from watertight.errors import MachineRefused, WatertightError
from watertight.model.findings import DeclarationError, Finding, Severity
from watertight.model.system import Position

EXCERPT_WIDTH = 100
"""Characters of a line that are shown around the column of a finding."""
MOST_BYTES_SHOWN = 8 * 1024 * 1024
P = ParamSpec("P")
R = TypeVar("R")

UNWRAPPED_WIDTH = 1000
"""Columns where nobody looks: whoever reads a pipe or a file wants whole lines."""


class _Harmless(RenderHook):
    """No text drives a terminal: names of objects and what programs say may hold anything."""

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        return [_Shown(renderable) for renderable in renderables]


@dataclass(frozen=True)
class _Shown:
    """What stands for one thing that is printed: the same, with its control characters replaced."""

    it: ConsoleRenderable

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for segment in console.render(self.it, options):
            yield segment if segment.control else segment._replace(text=harmless(segment.text))


def harmless(text: str) -> str:
    """The text with all but what can be seen, spaces, and ends of lines replaced by U+FFFD."""
    return "".join(
        c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text
    )


def one_line(text: str) -> str:
    """The same, and the ends of lines replaced, too."""
    return harmless(text).replace("\n", "\N{REPLACEMENT CHARACTER}")


def _console(*, to_stderr: bool) -> Console:
    stream = sys.stderr if to_stderr else sys.stdout
    width = None if stream.isatty() or "COLUMNS" in os.environ else UNWRAPPED_WIDTH
    console = Console(stderr=to_stderr, highlight=False, soft_wrap=True, width=width)
    console.push_render_hook(_Harmless())
    return console


stdout = _console(to_stderr=False)
stderr = _console(to_stderr=True)


class Output(StrEnum):
    """The two forms of every result."""

    TEXT = "text"
    JSON = "json"


OutputOption = Annotated[
    Output, typer.Option("--output", "-o", help="Text for people, JSON for programs.")
]


def print_json(document: Any) -> None:
    """One JSON document on stdout, in ASCII: what a name holds drives no terminal."""
    sys.stdout.write(json.dumps(document, indent=2, default=str) + "\n")


def print_table(columns: Iterable[str], rows: Iterable[Iterable[str]], *, title: str = "") -> None:
    """A plain table on stdout; cells are text, never markup."""
    table = Table(title=title or None, title_justify="left", box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(escape(one_line(cell)) for cell in row))
    stdout.print(table)


def say(message: str) -> None:
    """Progress, for people, on stderr."""
    stderr.print(escape(message))


def finding_as_dict(finding: Finding) -> dict[str, Any]:
    """A finding as JSON: stable keys."""
    return {
        "code": finding.code,
        "severity": finding.severity.value,
        "message": finding.message,
        "remedy": finding.remedy,
        "file": finding.at.file,
        "line": finding.at.line,
        "column": finding.at.column,
        "path": finding.where,
    }


def print_findings(findings: Iterable[Finding], console: Console) -> None:
    """One finding a line, as compilers do, so that editors can jump to it, and its own line."""
    excerpts = Excerpts()
    for finding in findings:
        colour = "red" if finding.severity is Severity.ERROR else "yellow"
        console.print(
            f"[bold]{escape(str(finding.at))}[/bold]: [{colour}]{finding.severity}[/{colour}] "
            f"{finding.code}: {escape(finding.message)}"
        )
        for line in excerpts.of(finding.at):
            console.print(line, markup=False, style="dim")
        if finding.remedy:
            console.print(f"  {escape(finding.remedy)}")


class Excerpts:
    """The lines of declarations that findings point at, each file read once."""

    def __init__(self) -> None:
        self._files: dict[str, list[str]] = {}

    def of(self, at: Position) -> tuple[str, ...]:
        """The line, with a mark under the column; nothing if it cannot be shown."""
        if at.file not in self._files:
            self._files[at.file] = _lines(at.file)
        lines = self._files[at.file]
        if not 0 < at.line <= len(lines):
            return ()
        whole = lines[at.line - 1]
        start = max(0, min(at.column - 1 - EXCERPT_WIDTH // 2, len(whole) - EXCERPT_WIDTH))
        line = whole[start : start + EXCERPT_WIDTH]
        shown = harmless(line).replace("\t", "→")
        gutter = f"{at.line:>5} | "
        if not shown.strip():
            return ()
        return gutter + shown, f"{'':>5} | {'':>{at.column - 1 - start}}^"


def _lines(file: str) -> list[str]:
    """Of a declaration, as the loader counts them."""
    try:
        with Path(file).open("rb") as stream:
            text = stream.read(MOST_BYTES_SHOWN).decode(errors="replace")
    except (OSError, ValueError):
        return []
    return [line.rstrip("\r") for line in text.removeprefix("\ufeff").split("\n")]


def speaks_plainly(command: Callable[P, R]) -> Callable[P, R]:
    """Turns our errors into one clear message and the right exit status.

    With ``--output json`` the error is a document on stdout as well, for programs.
    """

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except (WatertightError, OSError) as failure:
            error = failure if isinstance(failure, WatertightError) else MachineRefused(failure)
            if kwargs.get("output") == Output.JSON:  # `verify` has more forms of its own
                print_json({"error": _error_as_dict(error)})
            _print_error(error)
            raise typer.Exit(error.exit_code) from failure

    return run


def _error_as_dict(error: WatertightError) -> dict[str, Any]:
    document: dict[str, Any] = {"message": error.message, "remedy": error.remedy}
    if isinstance(error, DeclarationError):
        document["findings"] = [finding_as_dict(finding) for finding in error.findings]
    return document


def _print_error(error: WatertightError) -> None:
    if isinstance(error, DeclarationError):
        print_findings(error.findings, stderr)
        return
    stderr.print(f"[red]error:[/red] {escape(error.message)}")
    if error.remedy:
        stderr.print(f"  {escape(error.remedy)}")
