"""All commands in the order in which a person meets them.

A command is imported when it is called: most of what one of them needs, the others do not, and
importing it took most of the time of a short command.
"""

import gc
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Annotated, Any, cast

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from watertight import __version__
from watertight.cli.interrupt import told_plainly


@dataclass(frozen=True, slots=True)
class Entry:
    """A command: the module of this package that has it, and the first line of its help."""

    module: str
    help: str


COMMANDS: Mapping[str, Entry] = {
    "init": Entry("declaring", "Write a commented starter declaration, `watertight.yaml`."),
    "lint": Entry(
        "declaring", "Check a declaration: every finding at once, each with its line and a code."
    ),
    "schema": Entry(
        "declaring", "Print the JSON Schema of a declaration; editors complete from it."
    ),
    "plan": Entry(
        "running",
        "Show what applying the declaration would change: channels and grants gained and lost.",
    ),
    "up": Entry("running", "Bring the system up, sealed, and keep it so until Ctrl-C."),
    "apply": Entry(
        "running",
        "Make the running system what the declaration says; returns when every proxy has ACKed.",
    ),
    "restart": Entry(
        "programs",
        "Start programs again, one after the other: new code, the same identity and grants.",
    ),
    "status": Entry(
        "asking",
        "Show services, channels with path and cipher, SVID expiry, proxies and their version.",
    ),
    "down": Entry("asking", "Stop the running system; nothing of it is left running."),
    "explain": Entry(
        "declaring", "Say whether a call is allowed, and why, with the line that decides it."
    ),
    "env": Entry(
        "resources",
        "List what a service's program is told: environment variables and files. No secrets.",
    ),
    "render": Entry(
        "resources",
        "Print what a server that others run must be told: configuration, principals, grants.",
    ),
    "grant": Entry(
        "resources",
        "Give channels what they grant at a server that others run, as its administrator.",
    ),
    "verify": Entry(
        "proving",
        "Attack every channel of the running system, and prove that only what is declared works.",
    ),
    "rotate": Entry(
        "identities",
        "Replace keys live: leaves, the issuing intermediate, or the root. Loses no request.",
    ),
    "revoke": Entry(
        "identities",
        "Distrust an identity: end its live sessions, refuse new ones, issue it nothing.",
    ),
    "restore": Entry("identities", "Trust a revoked identity again, with a new SVID."),
}
ELSEWHERE: Mapping[str, str] = {
    **dict.fromkeys(
        ("log", "logs"),
        "What a service prints is in `.watertight/logs/SERVICE.app.log`, a server's in "
        "`RESOURCE.server.log` there.",
    ),
    **dict.fromkeys(("ps", "ls", "top"), "`watertight status` shows what runs."),
    **dict.fromkeys(("start", "run"), "`watertight up` brings the system up."),
    "stop": "`watertight down` stops the system.",
    **dict.fromkeys(("check", "validate", "config"), "`watertight lint` checks a declaration."),
    "diff": "`watertight plan` shows what would change.",
    **dict.fromkeys(("test", "prove"), "`watertight verify` attacks every channel."),
}
"""What other tools' commands are here."""
LOGGING = ("running", "proving", "resources")
"""Modules whose commands do things that may be worth a line in a log."""


def load(name: str) -> TyperCommand:
    """The command itself. Raises KeyError for a name that none has."""
    module = import_module(f"watertight.cli.{COMMANDS[name].module}")
    alone = typer.Typer(
        add_completion=False, pretty_exceptions_enable=False, context_settings=SETTINGS
    )
    alone.command(name)(getattr(module, name))
    if COMMANDS[name].module in LOGGING:
        log_warnings_to_stderr = import_module("watertight.cli.logging").log_warnings_to_stderr
        log_warnings_to_stderr()
    return cast("TyperCommand", get_command(alone))


VALIDATORS_WORDS = "Value error, "
"""What the library puts before its reason, and tells nobody anything."""


class _Later(TyperCommand):
    """Knows its name and the first line of its help, and becomes the command when it is called."""

    def make_context(self, *args: Any, **keywords: Any) -> Any:
        # All that is imported lives until the command ends: nothing of it is ever garbage, and
        # looking for some took a third of the time of a short command.
        gc.disable()
        command = load(str(self.name))
        gc.freeze()
        gc.enable()
        try:
            return command.make_context(*args, **keywords)
        except typer.BadParameter as error:
            error.message = error.message.replace(VALIDATORS_WORDS, "")
            raise


class _Commands(TyperGroup):
    def make_context(self, *args: Any, **keywords: Any) -> Any:
        with told_plainly():
            return super().make_context(*args, **keywords)

    def invoke(self, ctx: Any) -> Any:
        with told_plainly():
            return super().invoke(ctx)

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        return _Later(cmd_name, help=COMMANDS[cmd_name].help)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from watertight.model.nearest import did_you_mean  # noqa: PLC0415

            hint = ELSEWHERE.get(args[0], "") or did_you_mean(args[0], COMMANDS)
            hint = hint or "`watertight --help` lists them."
            ctx.fail(f"There is no command `{args[0]}`. {hint}")
        return super().resolve_command(ctx, args)


SETTINGS = {"help_option_names": ["-h", "--help"]}
app = typer.Typer(
    cls=_Commands,
    name="watertight",
    help="Makes every channel between your services encrypted, mutually authenticated and "
    "least-privilege, and proves it by attack.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings=SETTINGS,
    epilog="Exit status: 0 good, 1 found something wrong, 2 misuse, 3 could not do it.",
)


def _print_version(value: bool) -> None:
    if value:
        typer.echo(f"watertight {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Options that stand before the command."""


def main() -> None:
    """The entry point."""
    app()
