"""What each process sees of the file system: computed, then built by the sandbox.

A view starts from nothing and lists what appears; all else is absent: home directories, other
services' data, the host's /run with its D-Bus and resolver sockets (which would carry an app out of
a network namespace), and our own keys. Everything is pure but :func:`system_directories`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from watertight.errors import WatertightError
from watertight.runtime.pod_wire import Mount

_SYSTEM = ("usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "etc", "nix/store", "gnu/store")
"""Programs, libraries and their configuration; /opt and /srv appear where a program needs them."""

_DEVICES = ("null", "zero", "full", "random", "urandom")
_PROXY_TEMP_BYTES = 16 << 20
_LEAST_INODES = 1_024


@dataclass(frozen=True, slots=True)
class AppSight:
    """What one app may see besides the system. Paths are absolute, without symbolic links."""

    project: Path
    """Read-only."""
    data: Path
    """Its own, writable."""
    workload_api: Path
    """The directory of its Workload API socket."""
    credentials: Path
    """The directory of its SVID as files; empty if it has no channel to a resource."""
    temp_bytes: int
    programs: tuple[Path, ...] = ()
    """Where its interpreter and libraries lie, read-only."""
    hidden_directories: tuple[Path, ...] = ()
    hidden_files: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class ServerSight:
    """What one database or broker may see besides the system."""

    data: Path
    """Its own, writable."""
    sockets: Path
    """Where it makes its Unix sockets, writable."""
    configuration: Path
    credentials: Path
    users: Path
    """The /etc/passwd that it sees: its own user has a name there."""
    temp_bytes: int
    programs: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class ProxySight:
    """What one proxy may see besides the system."""

    doors: Path
    """Every proxy's doors: it may connect to all (each asks who it is) …"""
    own_doors: Path
    """… and makes its own here."""
    xds: Path
    private: Path
    binary: Path


def system_directories(root: Path = Path("/")) -> tuple[Mount, ...]:
    """The system's directories as this host has them: real, or links (/bin → usr/bin)."""
    found = []
    for name in _SYSTEM:
        path = root / name
        if path.is_symlink():
            found.append(Mount("symlink", f"/{name}", str(path.readlink())))
        elif path.is_dir():
            found.append(Mount("bind", f"/{name}", str(path)))
    return tuple(found)


def network_files(hosts: Path) -> tuple[Mount, ...]:
    """Names resolve by our hosts file alone: nothing is asked of a resolver."""
    return (
        Mount("bind", "/etc/hosts", str(hosts)),
        *((Mount("empty", "/etc/resolv.conf"),) if Path("/etc/resolv.conf").exists() else ()),
    )


def _temporary(size_bytes: int) -> str:
    """Options of a tmpfs (tmpfs(5)); as many files as it has pages, for each costs memory too."""
    inodes = max(_LEAST_INODES, size_bytes >> 12)
    return f"mode=1777,size={size_bytes},nr_inodes={inodes}"


def _everywhere(temp_bytes: int) -> tuple[Mount, ...]:
    temporary = _temporary(temp_bytes)
    return (
        Mount("proc", "/proc"),
        Mount("tmpfs", "/dev"),
        *(Mount("bind", f"/dev/{d}", f"/dev/{d}", writable=True, devices=True) for d in _DEVICES),
        Mount("symlink", "/dev/fd", "/proc/self/fd"),
        Mount("symlink", "/dev/stdin", "/proc/self/fd/0"),
        Mount("symlink", "/dev/stdout", "/proc/self/fd/1"),
        Mount("symlink", "/dev/stderr", "/proc/self/fd/2"),
        Mount("tmpfs", "/dev/shm", temporary),  # noqa: S108  in the process's own root
        Mount("tmpfs", "/tmp", temporary),  # noqa: S108
        Mount("directory", "/var"),
        Mount("symlink", "/var/tmp", "/tmp"),  # noqa: S108  one budget for both
        Mount("directory", "/run"),
    )


def app_view(
    system: Sequence[Mount], network: Sequence[Mount], sight: AppSight
) -> tuple[Mount, ...]:
    """All that an app sees."""
    for path in (sight.project, *sight.programs):
        if path == Path("/") or path in {Path("/proc"), Path("/run"), Path("/dev")}:
            raise TooMuchToShowError(path)
    shown = [step.target for step in system]
    more = [p for p in sight.programs if not any(p.is_relative_to(target) for target in shown)]
    return _in_order(
        [
            *system,
            *network,
            *_everywhere(sight.temp_bytes),
            *(Mount("bind", str(p), str(p)) for p in (sight.project, *more)),
            *(Mount("tmpfs", str(p)) for p in sight.hidden_directories),
            *(Mount("empty", str(p)) for p in sight.hidden_files),
            Mount("bind", str(sight.data), str(sight.data), writable=True),
            Mount("bind", str(sight.workload_api), str(sight.workload_api)),
            Mount("bind", str(sight.credentials), str(sight.credentials)),
        ]
    )


def server_view(
    system: Sequence[Mount], network: Sequence[Mount], sight: ServerSight
) -> tuple[Mount, ...]:
    """All that a server sees: no project, and nobody's files but its own."""
    shown = [step.target for step in system]
    more = [p for p in sight.programs if not any(p.is_relative_to(target) for target in shown)]
    return _in_order(
        [
            *system,
            *network,
            *_everywhere(sight.temp_bytes),
            Mount("bind", "/etc/passwd", str(sight.users)),
            *(Mount("bind", str(p), str(p)) for p in more),
            Mount("bind", str(sight.configuration), str(sight.configuration)),
            Mount("bind", str(sight.credentials), str(sight.credentials)),
            Mount("bind", str(sight.data), str(sight.data), writable=True),
            Mount("bind", str(sight.sockets), str(sight.sockets), writable=True),
        ]
    )


def proxy_view(
    system: Sequence[Mount], network: Sequence[Mount], sight: ProxySight
) -> tuple[Mount, ...]:
    """All that a proxy sees: no project, no app's data, no other proxy's private directory."""
    return _in_order(
        [
            *system,
            *network,
            *_everywhere(_PROXY_TEMP_BYTES),
            Mount("bind", str(sight.doors), str(sight.doors)),
            Mount("bind", str(sight.own_doors), str(sight.own_doors), writable=True),
            Mount("bind", str(sight.xds), str(sight.xds)),
            Mount("bind", str(sight.private), str(sight.private), writable=True),
            Mount("bind", str(sight.binary), str(sight.binary)),
        ]
    )


def _in_order(steps: Iterable[Mount]) -> tuple[Mount, ...]:
    """Parents before children; what an enclosing read-only bind shows already is left out."""
    parts = {step: PurePath(step.target).parts for step in steps}
    kept: list[Mount] = []
    at: dict[tuple[str, ...], Mount] = {}
    for step in sorted(parts, key=lambda step: parts[step]):
        target = parts[step]
        if step.kind == "bind" and not step.writable:
            above = (target[:length] for length in range(len(target), 0, -1))
            place = next((found for found in above if found in at), None)
            if place is not None and _shows(at[place], target[len(place) :], step.source):
                continue
        kept.append(step)
        at[target] = step
    return tuple(kept)


def _shows(enclosing: Mount, below: Sequence[str], source: str) -> bool:
    """Whether what a read-only bind has there is what another one would show."""
    is_plain = enclosing.kind == "bind" and not enclosing.writable
    return is_plain and str(PurePath(enclosing.source, *below)) == source


class TooMuchToShowError(WatertightError):
    """A directory that would show the app everything."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"An app would have to see {path}, and with it everything.",
            remedy="Put watertight.yaml and what it runs into a directory of their own.",
        )
