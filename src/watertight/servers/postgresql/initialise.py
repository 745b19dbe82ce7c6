"""Makes the data directory of a server that has none, all or nothing.

``initdb`` writes into a directory beside the final one, which is moved into place when it is
done. So what bears the final name is whole, and what bears the other never held anybody's data.
"""

import re
from pathlib import Path

from watertight.enforcers.resource import ServerHost
from watertight.errors import WatertightError
from watertight.servers.postgresql.compile import OPERATOR
from watertight.servers.postgresql.locate import cluster

UNFINISHED = ".unfinished"
INITDB_SECONDS = 300.0
"""A slow disk takes long to make 40 MB durable."""

_FULL = re.compile(r"No space left on device|Disk quota exceeded|wrote only \d+ of \d+ bytes")
"""A write that finds a little space is cut short, and its error names no reason
(src/backend/storage/smgr/md.c, mdextend)."""


async def initialise(host: ServerHost) -> bool:
    """Makes the data directory if there is none; says whether it did. Raises WatertightError."""
    data = cluster(host.placement, host.resource)
    if data.exists():
        if not (data / "PG_VERSION").exists():
            raise WatertightError(
                f"{data} is there and holds no PostgreSQL data.",
                remedy="Look at what it is, and move it away; we delete nothing that we did not "
                "make.",
            )
        return False
    unfinished = data.with_name(data.name + UNFINISHED)
    await _must(host, "/bin/rm", "-rf", "--", str(unfinished))
    await _must(
        host,
        str(Path(host.process.argv[0]).with_name("initdb")),
        f"--pgdata={unfinished}",
        f"--username={OPERATOR}",
        "--auth=reject",  # what is in force is our own file; this one lets nobody in
        "--encoding=UTF8",
        "--locale=C.UTF-8",
        "--data-checksums",
        "--no-instructions",
    )
    await _must(host, "/bin/mv", "-T", "--", str(unfinished), str(data))
    return True


def refuse_root(host: ServerHost) -> None:
    """PostgreSQL does not run as root. Raises WatertightError."""
    if host.user == "root":
        raise WatertightError(
            f"{host.resource} would run as root, and PostgreSQL refuses to.",
            remedy="Run Watertight where it can give its servers a user of their own "
            "(as root on a host with namespaces), or run it as an ordinary user.",
        )


async def _must(host: ServerHost, *argv: str) -> None:
    done = await host.run(argv, timeout_seconds=INITDB_SECONDS)
    if done.status != 0:
        if _FULL.search(done.output):
            raise WatertightError(
                f"The data directory of {host.resource} cannot be made: the disk is full: "
                f"{_reason(done.output)}",
                remedy=f"Make space where {host.placement.server_data(host.resource)} lies (a new "
                "database takes 50 MB), then apply again.",
            )
        raise WatertightError(
            f"The data directory of {host.resource} cannot be made: {Path(argv[0]).name}: "
            f"{_reason(done.output)}"
        )


def _reason(output: str) -> str:
    """The first line that complains: what follows only tells how far that reached."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    complaints = [line for line in lines if "FATAL" in line or "error:" in line]
    return (complaints or lines[-1:] or ["it says nothing"])[0]
