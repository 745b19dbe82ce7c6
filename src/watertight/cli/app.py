"""All commands in the order in which a person meets them."""

from typing import Annotated

import typer

from watertight import __version__
from watertight.cli import declaring, identities, proving, resources, running
from watertight.cli.logging import log_warnings_to_stderr

app = typer.Typer(
    name="watertight",
    help="Makes every channel between your services encrypted, mutually authenticated and "
    "least-privilege, and proves it by attack.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
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


for command in (
    declaring.init,
    declaring.lint,
    declaring.schema,
    running.plan,
    running.up,
    running.apply,
    running.status,
    running.down,
    declaring.explain,
    resources.env,
    resources.render,
    resources.grant,
    proving.verify,
    identities.rotate,
    identities.revoke,
    identities.restore,
):
    app.command()(command)


def main() -> None:
    """The entry point."""
    log_warnings_to_stderr()
    app()
