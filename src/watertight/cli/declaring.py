"""Commands that read a declaration and touch nothing: init, lint, schema, explain."""

from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer

from watertight.cli.checking import load_checked, load_for_lint
from watertight.cli.output import (
    Output,
    OutputOption,
    finding_as_dict,
    print_findings,
    print_json,
    say,
    speaks_plainly,
    stdout,
)
from watertight.cli.project import (
    DEFAULT_FILE,
    FileArgument,
    FileOption,
    admin_client,
    find_project,
    takes_file,
)
from watertight.enforcers.deciding import decide_use
from watertight.enforcers.registry import shapes
from watertight.errors import ExitCode, WatertightError
from watertight.model.decide import Decision
from watertight.model.document import quoted
from watertight.model.findings import DeclarationError
from watertight.model.schema import json_schema
from watertight.model.starter import STARTER
from watertight.model.system import GATEWAY, OUTSIDE, Limits, System
from watertight.model.units import counted, limits_text
from watertight.runtime.runs import still_run


@speaks_plainly
def init(
    directory: Annotated[Path, typer.Argument(help="Where to write it.")] = Path(),
    *,
    force: Annotated[bool, typer.Option("--force", help="Replace the one that is there.")] = False,
    output: OutputOption = Output.TEXT,
) -> None:
    """Write a commented starter declaration, `watertight.yaml`."""
    file = directory / DEFAULT_FILE
    if file.exists() and not force:
        raise WatertightError(
            f"{file} is there already.", remedy="Replace it with --force, or edit it."
        )
    try:
        directory.mkdir(parents=True, exist_ok=True)
        file.write_text(STARTER, encoding="utf-8")
    except OSError as error:
        raise WatertightError(f"{file} cannot be written: {error.strerror}.") from error
    if output is Output.JSON:
        print_json({"file": str(file)})
    else:
        say(f"Wrote {file}. Edit it, then: watertight lint {file}")


@speaks_plainly
@takes_file
def lint(file: FileArgument = DEFAULT_FILE, *, output: OutputOption = Output.TEXT) -> None:
    """Check a declaration: every finding at once, each with its line and a code."""
    try:
        system, findings = load_for_lint(file)
    except DeclarationError as error:
        if output is Output.JSON:
            print_json({"findings": [finding_as_dict(finding) for finding in error.findings]})
        else:
            print_findings(error.findings, stdout)
        raise typer.Exit(ExitCode.FOUND_WRONG) from error
    if output is Output.JSON:
        print_json({"findings": [finding_as_dict(finding) for finding in findings]})
        return
    print_findings(findings, stdout)
    say(
        f"{counted(len(system.services), 'service')}, {counted(len(system.channels), 'channel')}: "
        f"no error, {counted(len(findings), 'warning')}."
    )


@speaks_plainly
def schema() -> None:
    """Print the JSON Schema of a declaration; editors complete from it."""
    print_json(json_schema(shapes()))


@speaks_plainly
def explain(
    source: Annotated[str, typer.Argument(help="Who calls: a service, `gateway` or `outside`.")],
    target: Annotated[str, typer.Argument(help="Who is called.")],
    method: Annotated[
        str | None,
        typer.Argument(help="An HTTP method, an RPC service, or what is done: `select`."),
    ] = None,
    path: Annotated[
        str | None, typer.Argument(help="A path, an RPC method, or to what: `orders`.")
    ] = None,
    *,
    file: FileOption = DEFAULT_FILE,
    output: OutputOption = Output.TEXT,
) -> None:
    """Say whether a call is allowed, and why, with the line that decides it.

    It speaks of the declaration, and of who is revoked in the system that runs for it. Exit status
    1: denied; 2: what was asked names something that is not declared.
    """
    system, _ = load_checked(file)
    decision = decide_use(system, source, target, method, path)
    revoked = admin_client(file).revoked() if decision.allowed else frozenset()
    if revoked:
        decision = _unless_revoked(system, revoked, decision, (source, target, method, path))
    if unknown := revoked is None and bool(still_run(find_project(file))):
        say(
            "The control process is gone, so nobody says who is revoked: this is what the "
            "declaration alone allows. `watertight up` takes over what runs."
        )
    if output is Output.JSON:
        print_json(
            {
                "allowed": decision.allowed,
                "reason": decision.reason,
                "answered": decision.answered,
                "revocations_known": not unknown,
                "at": str(decision.at) if decision.at else None,
                "limits": {
                    name: asdict(limits) for name, limits in _limits(system, source, target)
                },
            }
        )
    else:
        word = "[green]allowed[/green]" if decision.allowed else "[red]denied[/red]"
        stdout.print(word if decision.answered else "[red]unknown[/red]", end=": ")
        stdout.print(decision.reason, markup=False)
        if decision.at:
            stdout.print(f"  {decision.at}", markup=False)
        asks_nothing = method is None and decision.answered
        for name, limits in _limits(system, source, target) if asks_nothing else ():
            stdout.print(f"  {name} may use {limits_text(limits)}.", markup=False)
    if not decision.answered:
        raise typer.Exit(ExitCode.MISUSE)
    if not decision.allowed:
        raise typer.Exit(ExitCode.FOUND_WRONG)


def _unless_revoked(
    system: System,
    revoked: frozenset[str],
    allowed: Decision,
    asked: tuple[str, str, str | None, str | None],
) -> Decision:
    """What is allowed, judged again without the channels and routes of those who are revoked."""
    if decide_use(system.without_identities(revoked), *asked).allowed:
        return allowed
    ends = {*asked[:2], *((GATEWAY,) if asked[0] == OUTSIDE else ())}
    if asked[0] in {OUTSIDE, GATEWAY} and asked[1] == GATEWAY:  # whichever service the route names
        ends |= {route.target for route in system.gateway.routes} if system.gateway else set()
    names = sorted(ends & revoked)
    who = ", ".join(quoted(name) for name in names)
    return replace(
        allowed,
        allowed=False,
        reason=f"{who} {'is' if len(names) == 1 else 'are'} revoked in the running system "
        f"(`watertight restore {names[0]}` takes that back). The declaration allows it: "
        f"{allowed.reason}",
    )


def _limits(system: System, *names: str) -> Iterator[tuple[str, Limits]]:
    """Of those that run here."""
    for name in dict.fromkeys(names):
        resource = system.resources.get(name)
        if (service := system.services.get(name)) is not None:
            yield name, service.limits
        elif resource is not None and not resource.external:
            yield name, resource.limits
