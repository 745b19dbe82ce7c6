"""Finds MariaDB's programs, and makes the data directory of a server that has none."""

import re
import shutil
from pathlib import Path

from watertight.enforcers.resource import ServerHost, ServerMissing, ServerPlan, ServerProcess
from watertight.errors import WatertightError
from watertight.model.placement import Placement
from watertight.servers.located import version_of
from watertight.servers.mariadb.compile import CONFIGURATION, OPENSSL, cluster, scratch

SERVER, INSTALL = "mariadbd", "mariadb-install-db"
OLDEST = (10, 11)
"""What all of this was tried on; FLUSH SSL is there since 10.4."""
START_SECONDS = 60.0
"""A server that was killed replays its log first."""
_VERSION = re.compile(r"Ver (\d+)\.(\d+)\.\d+-MariaDB")


def locate(plan: ServerPlan, placement: Placement, search_path: str) -> ServerProcess:
    """The server and its environment. Raises :class:`ServerMissing`."""
    path = f"{search_path}:/usr/sbin"
    found = [shutil.which(name, path=path) for name in (SERVER, "mariadb", INSTALL)]
    version = version_of(Path(found[0]), _VERSION) if found[0] else None
    if found[0] is None or None in found or version is None or tuple(version[:2]) < OLDEST:
        raise ServerMissing(
            f"{plan.at}: {plan.resource} needs MariaDB {OLDEST[0]}.{OLDEST[1]} or newer, and none "
            "is installed.",
            remedy="Install it: apt-get install mariadb-server.",
        )
    own = placement.server_directory(plan.resource)
    return ServerProcess(
        argv=(found[0], f"--defaults-file={own / CONFIGURATION}"),
        environment={"OPENSSL_CONF": str(own / OPENSSL), "LC_ALL": "C.UTF-8", "TZ": "UTC"},
        programs=(Path(found[0]),),
        start_seconds=START_SECONDS,
    )


async def initialise(host: ServerHost) -> None:
    """All or nothing: what bears the final name is whole. Raises WatertightError."""
    if host.user == "root":
        raise WatertightError(
            f"{host.resource} would run as root, and MariaDB refuses to.",
            remedy="Run Watertight where it can give its servers a user of their own "
            "(as root on a host with namespaces), or run it as an ordinary user.",
        )
    data = cluster(host.placement, host.resource)
    temporary, *_ = own = scratch(host.placement, host.resource)
    await _must(host, "/bin/mkdir", "-p", *map(str, own))
    if data.exists():
        return
    unfinished = data.with_name(f"{data.name}.unfinished")
    await _must(host, "/bin/rm", "-rf", "--", str(unfinished))
    await _must(
        host,
        INSTALL,
        "--no-defaults",
        f"--datadir={unfinished}",
        "--auth-root-authentication-method=socket",
        f"--auth-root-socket-user={host.user}",
        "--skip-test-db",
        "--skip-name-resolve",
        # Files of its temporary tables bear its process number, which another sandbox has, too.
        f"--tmpdir={temporary}",
    )
    await _must(host, "/bin/mv", "-T", "--", str(unfinished), str(data))


async def _must(host: ServerHost, *argv: str) -> None:
    done = await host.run(argv, timeout_seconds=300.0)
    if done.status:
        lines = [line.strip() for line in done.output.splitlines() if line.strip()]
        wrong = [line for line in lines if "ERROR" in line] or lines[-1:] or ["it says nothing"]
        raise WatertightError(
            f"The data directory of {host.resource} cannot be made: {Path(argv[0]).name}: "
            f"{wrong[0]}"
        )
