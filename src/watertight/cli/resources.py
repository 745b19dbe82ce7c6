"""Commands about databases and brokers: how a service reaches them, what a server must be told."""

import asyncio
import os
from pathlib import Path
from typing import Annotated

import typer

from watertight.cli.checking import load_checked
from watertight.cli.output import Output, OutputOption, print_json, say, speaks_plainly, stdout
from watertight.cli.project import DEFAULT_FILE, FileOption, find_declaration
from watertight.control.clients import client_of, environment_of
from watertight.enforcers.registry import resource_enforcers
from watertight.enforcers.resource import GrantsElsewhere
from watertight.errors import ExitCode, WatertightError
from watertight.identity.keystores import KEYSTORE, PRIVATE_KEY_DER, TRUSTSTORE
from watertight.model.nearest import did_you_mean_or_list
from watertight.model.system import Resource, System
from watertight.runtime.capabilities import detect
from watertight.runtime.environment import app_environment
from watertight.runtime.files import STATE_DIRECTORY
from watertight.runtime.layout import Layout
from watertight.runtime.runs import run_directory


class Unknown(WatertightError):
    """A name that the declaration does not have, or has for something else."""

    exit_code = ExitCode.MISUSE


@speaks_plainly
def env(
    service: Annotated[str, typer.Argument(help="A service.")],
    *,
    file: FileOption = DEFAULT_FILE,
    output: OutputOption = Output.TEXT,
) -> None:
    """List what a service's program is told: environment variables and files. No secrets.

    The variables are all that the program gets from `watertight up` in this shell, and no others.
    """
    system, _ = load_checked(file)
    if service not in system.services:
        raise Unknown(
            f"There is no service `{service}`.",
            remedy=did_you_mean_or_list(service, system.services),
        )
    declaration = find_declaration(file).resolve()
    state = declaration.parent / STATE_DIRECTORY
    layout = Layout(declaration, state, run_directory(declaration.parent), detect())
    placement = layout.placement
    reached = {
        channel.target: client_of(system, placement, channel)
        for channel in system.outgoing(service)
        if channel.target in system.resources
    }
    clients = environment_of(settings for _, settings in reached.values())
    variables = app_environment(system, layout, os.environ, service, clients)
    files = [str(placement.credentials(service) / name) for name in CREDENTIALS] if reached else []
    files += [
        str(placement.channels_file(service).with_name(name))
        for _, settings in reached.values()
        for name in settings.files
    ]
    if output is Output.JSON:
        print_json({"environment": variables, "files": files})
        return
    for key, value in sorted(variables.items()):
        stdout.print(f"{key}={value}", markup=False, soft_wrap=True)
    for path in files:
        stdout.print(path, markup=False, soft_wrap=True)


@speaks_plainly
def render(
    resource: Annotated[str, typer.Argument(help="A database or broker.")],
    *,
    directory: Annotated[
        Path | None, typer.Option("--directory", "-d", help="Write the files there.")
    ] = None,
    file: FileOption = DEFAULT_FILE,
    output: OutputOption = Output.TEXT,
) -> None:
    """Print what a server that others run must be told: configuration, principals, grants."""
    system, _ = load_checked(file)
    declared = _declared(system, resource)
    files = resource_enforcers()[declared.kind].render(system, declared)
    if directory is not None:
        directory.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (directory / name).write_text(text, encoding="utf-8")
    if output is Output.JSON:
        print_json({"files": dict(files)})
        return
    for name, text in files.items():
        if directory is not None:
            stdout.print(str(directory / name), markup=False, soft_wrap=True)
        else:
            stdout.print(f"# --- {name}\n{text}", markup=False, soft_wrap=True, highlight=False)


def _admin_forms() -> str:
    """How it is said for each kind that can be told from outside what to grant."""
    told = ((k, e) for k, e in resource_enforcers().items() if isinstance(e, GrantsElsewhere))
    return ", ".join(f"`{enforcer.admin_form}` ({kind})" for kind, enforcer in sorted(told))


@speaks_plainly
def grant(
    resource: Annotated[str, typer.Argument(help="A database or broker that others run.")],
    *,
    admin: Annotated[
        str,
        typer.Option(
            "--admin",
            help=f"How to reach it as its administrator, without a password: {_admin_forms()}.",
        ),
    ],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be changed.")
    ] = False,
    file: FileOption = DEFAULT_FILE,
    output: OutputOption = Output.TEXT,
) -> None:
    """Give channels what they grant at a server that others run, as its administrator."""
    system, _ = load_checked(file)
    declared = _declared(system, resource)
    if not declared.external:
        raise Unknown(
            f"{declared.at}: Watertight runs {resource} itself.",
            remedy="`watertight apply` grants what channels say. For another's server: `external`.",
        )
    enforcer = resource_enforcers()[declared.kind]
    if not isinstance(enforcer, GrantsElsewhere):
        raise Unknown(
            f"{declared.at}: A server of {declared.kind} takes its grants from its own files only.",
            remedy=f"Hand its administrator what `watertight render {resource}` prints.",
        )
    changed = asyncio.run(enforcer.grant(system, declared, admin, dry_run=dry_run))
    if output is Output.JSON:
        print_json({"changed": list(changed), "dry_run": dry_run})
        return
    for line in changed:
        stdout.print(line, markup=False, soft_wrap=True)
    if not changed:
        say(f"{resource} grants what channels say, and nothing else.")


def _declared(system: System, name: str) -> Resource:
    """A resource of the declaration. Raises Unknown."""
    if name in system.services:
        raise Unknown(
            f"`{name}` is a service, and Watertight runs it: no server must be told anything.",
            remedy=f"What its program is told: watertight env {name}.",
        )
    if name not in system.resources:
        raise Unknown(
            f"There is no resource `{name}`.", remedy=did_you_mean_or_list(name, system.resources)
        )
    return system.resources[name]


CREDENTIALS = (
    *("certificate.pem", "private_key.pem", "combined.pem", "bundle.pem"),
    *(PRIVATE_KEY_DER, KEYSTORE, TRUSTSTORE),
)
