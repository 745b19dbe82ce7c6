"""Commands that only ask the running system: status, down. They import as little as they need."""

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import Any

import typer
from rich.markup import escape

from watertight.cli.output import (
    Output,
    OutputOption,
    one_line,
    print_json,
    print_table,
    say,
    speaks_plainly,
    stderr,
    stdout,
)
from watertight.cli.project import (
    DEFAULT_FILE,
    FileArgument,
    admin_client,
    find_project,
    takes_file,
)
from watertight.control.client import AdminClient, NotRunning, Stopped
from watertight.errors import WITHOUT_ROOM, ExitCode, WatertightError
from watertight.model.units import counted
from watertight.runtime.files import STATE_DIRECTORY, own_directory
from watertight.runtime.proc import start_time
from watertight.runtime.runs import all_of, holder, living

STOP_DEADLINE_SECONDS = 60.0
POLL_SECONDS = 0.05


@speaks_plainly
@takes_file
def down(file: FileArgument = DEFAULT_FILE, *, output: OutputOption = Output.TEXT) -> None:
    """Stop the running system; nothing of it is left running.

    Also what a control process that was killed left running, whatever the declaration was called.
    """
    project = find_project(file)
    state = project / STATE_DIRECTORY
    client = admin_client(file)
    process = _stop_control(client, state)
    ended = _end_what_is_left(project)
    if process is None and not ended:
        silence = client.silence()
        raise Stopped("Nothing runs here.") if isinstance(silence, Stopped) else silence
    if output is Output.JSON:
        print_json({"process": process, "left": list(ended)})
    elif ended:
        say(f"Stopped, with what no control process was left for: {', '.join(ended)}.")
    else:
        say("Stopped.")


def _stop_control(client: AdminClient, state: Path) -> int | None:
    """Has the control process stop its system, and waits for it; returns its pid, if there is one.

    Raises UntrustedDirectoryError where another user wrote down which process that is.
    """
    answering = client.pid()
    process = answering or holder(state)
    if process is None:
        return None
    started = start_time(process)
    if answering is not None:
        with contextlib.suppress(NotRunning):  # somebody else has stopped it meanwhile
            client.post("/stop", {})
    else:  # it is coming up or stopping already, or it hangs
        own_directory(state)
        _signal(process, signal.SIGTERM, signal.SIGCONT)
    deadline = time.monotonic() + STOP_DEADLINE_SECONDS
    while started is not None and start_time(process) == started:
        if time.monotonic() > deadline:
            if answering is not None:
                raise WatertightError(
                    f"It did not stop within {STOP_DEADLINE_SECONDS:.0f} s.",
                    remedy="See .watertight/logs/control.log.",
                )
            _signal(process, signal.SIGKILL)  # the programs are ended by whoever called
        time.sleep(POLL_SECONDS)
    return process


def _signal(process: int, *numbers: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        for number in numbers:
            os.kill(process, number)


def _end_what_is_left(project: Path) -> tuple[str, ...]:
    """Ends the programs that go on without a control process; returns their names."""
    runs = tuple(run for run in all_of(project) if living(run))
    if not runs:
        return ()
    import asyncio  # noqa: PLC0415 - seldom needed, and takes a while

    from watertight.control.ending import end_what_is_left  # noqa: PLC0415

    return asyncio.run(end_what_is_left(project, runs))


@speaks_plainly
@takes_file
def status(file: FileArgument = DEFAULT_FILE, *, output: OutputOption = Output.TEXT) -> None:
    """Show services, channels with path and cipher, SVID expiry, proxies and their version.

    Ciphers and key exchanges are all that were agreed on since the proxies started, with `verify`
    as well: those that only its attacks used stand there, too.
    """
    document = admin_client(file).get("/status")
    if output is Output.JSON:
        print_json(document)
    else:
        _print_status(document)
    drifted = any(document["drift"].values())
    unwritten = not document.get("written_down", True)  # an earlier version does not say it
    if drifted or unwritten or any(not _is_well(service) for service in document["services"]):
        raise typer.Exit(ExitCode.FOUND_WRONG)


def _is_well(service: dict[str, Any]) -> bool:
    running = all(process["state"] == "running" for process in service["processes"])
    proxy = service["proxy"]
    return running and proxy["connected"] and proxy["answers"] and not service["renewal_failure"]


def _print_status(document: dict[str, Any]) -> None:
    print_table(
        ("SERVICE", "PROXY", "APP", "RESTARTS", "SVID ENDS IN", "CONFIG"),
        (_service_row(service) for service in document["services"]),
    )
    stdout.print()
    print_table(
        ("FROM", "TO", "PATH", "CIPHER", "KEY EXCHANGE", "OPEN"),
        (
            (
                channel["from"],
                channel["to"],
                channel["path"],
                ", ".join(channel["ciphers"]) or "-",
                ", ".join(channel["groups"]) or "-",
                str(channel["connections"]),
            )
            for channel in document["channels"]
        ),
    )
    gateway = document["gateway"]
    if gateway:
        stdout.print(f"\nGateway: https://{gateway['hostname']} at {gateway['address']}")
        for issuer in gateway["issuers"]:
            _print_issuer(issuer)
    _print_services(document["services"])
    _print_disk(document)
    _print_differences(document)


def _print_disk(document: dict[str, Any]) -> None:
    """A disk that is full, and what came of it."""
    if not document.get("written_down", True):
        stderr.print(
            "[red]Not written down[/red]: a revocation lasts as long as this control process runs. "
            "Once there is room it is written by itself."
        )
    if document.get("disk_full"):
        stderr.print(f"[yellow]The disk of {STATE_DIRECTORY} is full.[/yellow] {WITHOUT_ROOM}")


def _print_services(services: list[dict[str, Any]]) -> None:
    """What is wrong with one of them, and what to do."""
    for service in services:
        if service["renewal_failure"] and not service["revoked"]:
            stderr.print(
                f"[yellow]{escape(service['name'])}[/yellow]: no new SVID: "
                f"{escape(service['renewal_failure'])}"
            )
        for process in service["processes"]:
            if process["state"] != "running":
                log = f"{STATE_DIRECTORY}/logs/{service['name']}.{process['name']}.log"
                last = f", last: {process['last_exit']}" if process["last_exit"] else ""
                stderr.print(
                    f"[yellow]{escape(service['name'])}[/yellow]: its {process['name']} is "
                    f"{process['state']}{escape(last)}. What it said: {escape(log)}"
                )
            if process["outdated"] and not service["revoked"]:
                stderr.print(escape(one_line(_outdated(service["name"], process))))
        if service["proxy"]["connected"] and not service["proxy"]["answers"]:
            log = f"{STATE_DIRECTORY}/logs/{service['name']}.proxy.log"
            stderr.print(
                f"[yellow]{escape(service['name'])}[/yellow]: its proxy runs, but does not answer: "
                f"it hangs, or was stopped. After two minutes it is started again. Its log: {log}"
            )


def _print_differences(document: dict[str, Any]) -> None:
    """What is not as declared, and what this machine cannot."""
    if document["changing"]:
        stderr.print(
            f"[yellow]A change is under way ({escape(document['changing'])}):[/yellow] "
            "what differs from the declaration is told once it is done."
        )
    for resource, differences in document["drift"].items():
        for difference in differences:
            stderr.print(
                f"[yellow]drift[/yellow] {escape(one_line(f'{resource}: {difference}'))} "
                "(`watertight apply` puts what is declared in force)"
            )
    for resource, lines in document["waiting"].items():
        for line in lines:
            stderr.print(escape(one_line(f"{resource}: {line}.")))
    if document["finding"]:
        stderr.print(f"[red]{escape(document['finding'])}[/red]")
    if document["budget_finding"]:
        stderr.print(f"[yellow]{escape(document['budget_finding'])}[/yellow]")


def _outdated(service: str, process: dict[str, Any]) -> str:
    anew = (
        f"`watertight restart {service}`"
        if process["name"] == "app"
        else "`watertight down` and `watertight up`"
    )
    return (
        f"{service}: its {process['name']} runs on with other settings than it would start with "
        f"now ({', '.join(process['outdated'])}). {anew} starts it anew."
    )


def _print_issuer(issuer: dict[str, Any]) -> None:
    """How many keys are used, which not and why; and why they could not be fetched just now."""
    count = counted(issuer["keys"], "key") + (", closed" if issuer.get("closed") else "")
    left_out = "".join(f"\n  left out: {why}" for why in issuer["skipped"])
    stdout.print(escape(f"Issuer {issuer['name']}: {count}{left_out}"))
    if issuer["failure"]:
        closed = issuer.get("closed")
        colour = "red" if closed else "yellow"
        meanwhile = (
            "Until there is a key again, every token of it is refused (401)."
            if closed
            else "Meanwhile the last good set is in force, for a day at most."
        )
        name, failure = escape(issuer["name"]), escape(issuer["failure"])
        stderr.print(f"[{colour}]{name}[/{colour}]: {failure} {meanwhile}")


def _service_row(service: dict[str, Any]) -> tuple[str, ...]:
    processes = {process["name"]: process for process in service["processes"]}
    left = service["svid_expires_in_seconds"]
    expiry = "revoked" if service["revoked"] else "none" if left is None else _duration(left)
    proxy = processes.get("proxy", {"state": "gone"})["state"]
    if not service["proxy"]["connected"]:
        proxy = f"{proxy}, not connected"
    elif not service["proxy"]["answers"]:
        proxy = f"{proxy}, does not answer"
    return (
        service["name"],
        proxy,
        app["state"] if (app := processes.get("app") or processes.get("server")) else "-",
        str(sum(process["restarts"] for process in processes.values())),
        expiry,
        service["proxy"]["version"] or "-",
    )


def _duration(seconds: int) -> str:
    minutes, rest = divmod(max(seconds, 0), 60)
    return f"{minutes} min" if minutes >= 2 else f"{minutes * 60 + rest} s"
