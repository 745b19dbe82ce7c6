"""Commands that change who is trusted: rotate, revoke, restore."""

from typing import Annotated

import typer

from watertight.cli.output import Output, OutputOption, print_json, say, speaks_plainly
from watertight.cli.project import DEFAULT_FILE, FileOption, admin_client
from watertight.control.requests import What
from watertight.model.units import counted

ServiceArgument = Annotated[str, typer.Argument(help="A service, or `gateway`.")]


@speaks_plainly
def rotate(
    what: Annotated[What, typer.Argument(help="What to replace.")],
    service: Annotated[str | None, typer.Argument(help="Only this service's leaf.")] = None,
    *,
    file: FileOption = DEFAULT_FILE,
    output: OutputOption = Output.TEXT,
) -> None:
    """Replace keys live: leaves, the issuing intermediate, or the root. Loses no request."""
    if service is not None and what is not What.LEAF:
        raise typer.BadParameter("Only a leaf belongs to one service.")
    answer = admin_client(file).post("/rotate", {"what": what.value, "workload": service})
    if output is Output.JSON:
        print_json(answer)
        return
    say(f"{counted(len(answer['workloads']), 'new SVID')}, acknowledged by every proxy.")
    for root in answer["retired_roots"]:
        say(f"The old root {root} is trusted no more.")


@speaks_plainly
def revoke(
    service: ServiceArgument,
    *,
    file: FileOption = DEFAULT_FILE,
    output: OutputOption = Output.TEXT,
) -> None:
    """Distrust an identity: end its live sessions, refuse new ones, issue it nothing."""
    cut = admin_client(file).post("/revoke", {"workload": service})
    if output is Output.JSON:
        print_json(cut)
    elif cut["was_revoked"]:
        say(f"{cut['spiffe_id']} was revoked already, and still is.")
    else:
        say(
            f"{cut['spiffe_id']} is revoked: {counted(cut['sessions'], 'session')} ended, "
            f"new ones refused, after {cut['seconds']:.3f} s."
        )


@speaks_plainly
def restore(
    service: ServiceArgument,
    *,
    file: FileOption = DEFAULT_FILE,
    output: OutputOption = Output.TEXT,
) -> None:
    """Trust a revoked identity again, with a new SVID."""
    restored = admin_client(file).post("/restore", {"workload": service})
    if output is Output.JSON:
        print_json(restored)
    elif restored["was_revoked"]:
        say(f"{service} is trusted again.")
    else:
        say(f"{service} was not revoked: it is trusted, as it was.")
