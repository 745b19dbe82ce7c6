"""Commands that put a declaration in force: plan, up, apply."""

import asyncio
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, TypeAlias

import typer
from rich.markup import escape

from watertight.cli.background import start_in_background
from watertight.cli.checking import absent_here, load_checked, load_for_this_machine
from watertight.cli.logging import log_to_file
from watertight.cli.output import (
    Output,
    OutputOption,
    finding_as_dict,
    one_line,
    print_findings,
    print_json,
    say,
    speaks_plainly,
    stderr,
    stdout,
)
from watertight.cli.project import (
    DEFAULT_FILE,
    FileArgument,
    admin_client,
    find_declaration,
    takes_file,
)
from watertight.control.client import NotRunning
from watertight.control.requests import Options
from watertight.control.store import Store
from watertight.enforcers.registry import resource_enforcers
from watertight.enforcers.resource import Forgets
from watertight.model.diff import Change, awaiting_restart, compare
from watertight.model.findings import Finding
from watertight.model.placement import Placement
from watertight.model.system import System
from watertight.model.units import counted
from watertight.runtime.files import STATE_DIRECTORY
from watertight.runtime.layout import Layout
from watertight.runtime.logs import LogFollower
from watertight.runtime.runs import run_directory

SIGNS = {"+": "green", "-": "red", "~": "yellow"}


Loading: TypeAlias = Callable[[Path], tuple[System, tuple[Finding, ...]]]


def _changes(file: Path, load: Loading) -> tuple[System, tuple[Change, ...], Mapping[str, Change]]:
    """What is declared, what that changes, and which programs run on without it."""
    system, _ = load(file)
    current = Store(find_declaration(file).resolve().parent / STATE_DIRECTORY).current()
    changes = (*compare(current, system), *_forgotten(current, system))
    return system, changes, awaiting_restart(current, system)


def _forgotten(before: System | None, after: System) -> Iterator[Change]:
    for enforcer in resource_enforcers().values():
        if before is not None and isinstance(enforcer, Forgets):
            yield from enforcer.forgotten(before, after)


def _consequences(file: Path, after: System) -> Iterator[Change]:
    """What `apply` would start anew, and which data it would leave behind."""
    project = find_declaration(file).resolve().parent
    before = Store(project / STATE_DIRECTORY).current()
    if before is None:
        return
    from watertight.control.consequences import left_behind, told_otherwise  # noqa: PLC0415

    yield from told_otherwise(before, after, Placement(run_directory(project), project))
    yield from left_behind(before, after)


def _drift(file: Path) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Resource → what differs from what is in force, which `apply` mends too, and what is granted
    once it is there; {} if none runs."""
    try:
        document = admin_client(file).get("/status")
    except NotRunning:
        return {}, {}
    drift = {resource: found for resource, found in document["drift"].items() if found}
    return drift, document["waiting"]


def _print_changes(changes: tuple[Change, ...]) -> None:
    for change in changes:
        colour = SIGNS[change.sign]
        stdout.print(f"[{colour}]{change.sign}[/{colour}] {escape(change.what)}")


def _say_what_waits(waiting: dict[str, list[str]]) -> None:
    for resource, lines in waiting.items():
        for line in lines:
            say(one_line(f"{resource}: {line}."))


@speaks_plainly
@takes_file
def plan(file: FileArgument = DEFAULT_FILE, *, output: OutputOption = Output.TEXT) -> None:
    """Show what applying the declaration would change: channels and grants gained and lost.

    Also the programs that are started anew since what they are told of others changes, and data
    that stays behind under another name; and what differs in the running servers from what is in
    force, as a `schema` file that was edited. It warns of what is not on this machine, for which
    `apply` refuses it here.
    """
    system, changes, awaiting = _changes(file, load_checked)
    changes = (*changes, *_consequences(file, system), *awaiting.values())
    drift, waiting = _drift(file)
    absent = absent_here(system, file)
    print_findings(absent, stderr)
    if output is Output.JSON:
        print_json(
            {
                "changes": [
                    {"sign": change.sign, "what": change.what, "tightens": change.tightens}
                    for change in changes
                ],
                "drift": drift,
                "waiting": waiting,
                "absent": [finding_as_dict(finding) for finding in absent],
            }
        )
    elif changes or drift:
        _print_changes(changes)
        for resource, differences in drift.items():
            for difference in differences:
                stdout.print(
                    f"[yellow]drift[/yellow] {escape(one_line(f'{resource}: {difference}'))}"
                )
    else:
        say("Nothing would change.")
    if output is Output.TEXT:
        _say_what_waits(waiting)
    if absent:
        say("On this machine `apply` would refuse it, for what is not here.")


@speaks_plainly
@takes_file
def up(
    file: FileArgument = DEFAULT_FILE,
    *,
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Return once sealed; stop it with `down`.")
    ] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Apply the declaration whenever it changes.")
    ] = False,
    logs: Annotated[bool, typer.Option(help="Show what the services print.")] = True,
    svid_ttl: Annotated[
        int, typer.Option(min=2, max=86_400, help="Seconds that an SVID lives.")
    ] = 3600,
    output: OutputOption = Output.TEXT,
) -> None:
    """Bring the system up, sealed, and keep it so until Ctrl-C.

    As JSON, the process that runs it is the result; what the services print goes to stderr.
    """
    _, warnings = load_for_this_machine(file)
    print_findings(warnings, stderr)
    declaration = find_declaration(file).resolve()
    options = Options(
        declaration,
        load=lambda: load_for_this_machine(declaration)[0],
        say=say,
        svid_ttl_seconds=svid_ttl,
        watch=watch,
    )
    if detach:
        process = start_in_background(options)
        if output is Output.JSON:
            print_json({"process": process})
        else:
            say(f"Sealed and running (process {process}). Stop it with `watertight down`.")
        return
    options = replace(options, tidy=log_to_file(declaration.parent / STATE_DIRECTORY))
    asyncio.run(_serve_and_show(options, output, logs=logs))


async def _serve_and_show(options: Options, output: Output, *, logs: bool) -> None:
    # The other commands start in half the time without gRPC, Envoy's messages and a web server.
    from watertight.control.up import serve  # noqa: PLC0415

    following: list[asyncio.Task[None]] = []

    def sealed(layout: Layout) -> None:
        system = options.load()
        say(
            f"Sealed: {counted(len(system.services), 'service')}, "
            f"{counted(len(system.channels), 'channel')}. "
            "Prove it with `watertight verify`. Ctrl-C stops it."
        )
        if layout.capabilities.finding:
            stderr.print(f"[red]{escape(layout.capabilities.finding)}[/red]")
        if layout.capabilities.budget_finding:
            stderr.print(f"[yellow]{escape(layout.capabilities.budget_finding)}[/yellow]")
        if output is Output.JSON:
            print_json({"process": os.getpid()})
            sys.stdout.flush()
        if logs:
            console = stderr if output is Output.JSON else stdout
            follower = LogFollower(layout.logs, console, processes=("app",))
            following.append(asyncio.ensure_future(follower.run()))

    try:
        await serve(options, sealed)
    finally:
        for task in following:
            task.cancel()
        await asyncio.gather(*following, return_exceptions=True)


@speaks_plainly
@takes_file
def apply(file: FileArgument = DEFAULT_FILE, *, output: OutputOption = Output.TEXT) -> None:
    """Make the running system what the declaration says; returns when every proxy has ACKed."""
    _, changes, awaiting = _changes(file, load_for_this_machine)
    client = admin_client(file)
    answer = client.post("/apply", {})
    changes = (*changes, *(c for name, c in awaiting.items() if name in answer["outdated"]))
    if output is Output.JSON:
        print_json(
            {
                "changes": [{"sign": c.sign, "what": c.what} for c in changes],
                "versions": answer["versions"],
                "servers": answer["servers"],
                "waiting": answer["waiting"],
            }
        )
        return
    _print_changes(changes)
    for name, count in answer["servers"].items():
        say(f"{name} is ready: {counted(count, 'change')}.")
    _say_what_waits(answer["waiting"])
    say(f"In force at {counted(len(answer['versions']), 'proxy', 'proxies')}.")
