"""The command that starts programs again."""

from typing import Annotated

import typer

from watertight.cli.output import Output, OutputOption, print_json, say, speaks_plainly
from watertight.cli.project import DEFAULT_FILE, FileOption, admin_client


@speaks_plainly
def restart(
    services: Annotated[list[str], typer.Argument(metavar="SERVICE...", help="One or more.")],
    *,
    file: FileOption = DEFAULT_FILE,
    output: OutputOption = Output.TEXT,
) -> None:
    """Start programs again, one after the other: new code, the same identity and grants.

    Each is asked to end (TERM) and has five seconds for what it is doing; the next one follows
    once it is ready again. A declaration that was changed is put in force by `apply`, not by this.
    """
    client = admin_client(file)
    restarted = []
    for service in dict.fromkeys(services):
        restarted.append(client.post("/restart", {"service": service}))
        if output is Output.TEXT:
            say(f"{service} runs again, after {restarted[-1]['seconds']:.1f} s.")
            if restarted[-1]["revoked"]:
                say(f"It is still revoked: `watertight restore {service}` trusts it again.")
    if output is Output.JSON:
        print_json({"restarted": restarted})
