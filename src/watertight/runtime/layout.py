"""Where a system's files lie on this host: the run directory, and ``.watertight/`` beside the file.

The run directory has short names, for a Unix socket's path has at most 107 bytes (unix(7)), and
vanishes at reboot. Nothing is made where another user could have prepared a trap.
"""

import os
import pwd
import resource
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from watertight.errors import WatertightError
from watertight.model.placement import Placement
from watertight.model.system import GATEWAY, System
from watertight.runtime.capabilities import HostCapabilities, Isolation
from watertight.runtime.cgroups import Cgroups
from watertight.runtime.files import (
    STATE_DIRECTORY,
    given_directory,
    own_directory,
    own_state,
    require_own,
    write_atomically,
)
from watertight.runtime.runs import LINK, run_directory
from watertight.runtime.uids import Users, allotted, keep

LONGEST_SOCKET_PATH = 107
USERS = "users.json"


class SocketPathTooLongError(WatertightError):
    """A Unix socket could not be bound."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"The socket {path} has a path of {len(os.fsencode(path))} bytes; "
            f"the kernel takes {LONGEST_SOCKET_PATH}.",
            remedy="Use shorter service names.",
        )


@dataclass(frozen=True, slots=True)
class Layout:
    """The directories of one running system. ``users`` is None unless root gives each its own."""

    declaration: Path
    state: Path
    run: Path
    capabilities: HostCapabilities
    users: Users | None = field(default=None, repr=False)

    @property
    def project(self) -> Path:
        """Where the declaration stands."""
        return self.declaration.parent

    @property
    def logs(self) -> Path:
        """One file a process: ``<service>.<process>.log``."""
        return self.state / "logs"

    @property
    def pods(self) -> Path:
        """One directory a pod: its specification, its record, its control socket."""
        return self.run / "pods"

    @property
    def placement(self) -> Placement:
        """What a compile may know of this machine."""
        return Placement(
            self.run,
            self.project,
            self.capabilities.shared_network,
            open_files=resource.getrlimit(resource.RLIMIT_NOFILE)[1],
        )

    @property
    def cgroups(self) -> Cgroups:
        """The budgets of this system's workloads."""
        return Cgroups(self.capabilities.cgroups, self.run.name)

    def pod(self, name: str) -> Path:
        """One pod's directory; only the operator sees it."""
        return self.pods / name

    def bootstrap(self, workload: str) -> Path:
        """What one proxy starts with: where it can read and only we can write.

        In a directory of the proxy's own, a link that it left there would lead our pen elsewhere.
        """
        return self.placement.xds_socket(workload).with_name("bootstrap.json")

    def log(self, pod: str, process: str) -> Path:
        """Where the output of one process goes."""
        return self.logs / f"{pod}.{process}.log"

    def access_log(self, pod: str) -> Path:
        """Where a proxy's access log goes."""
        return self.logs / f"{pod}.access.log"

    def data(self, service: str) -> Path:
        """The one place where a service may write; it survives."""
        return self.state / "data" / service

    def users_file(self, resource: str) -> Path:
        """The /etc/passwd that a server sees (passwd(5))."""
        return self.pod(resource) / "passwd"

    def owner_of_proxy(self, workload: str) -> tuple[int, int] | None:
        """Whose a proxy's sockets and files are; None: ours."""
        return tuple(self.users.proxy(workload)) if self.users else None  # type: ignore[return-value]

    def owner_of_app(self, service: str) -> tuple[int, int] | None:
        """Whose an app's files are; None: ours."""
        return tuple(self.users.app(service)) if self.users else None  # type: ignore[return-value]


def look(
    declaration: Path,
    system: System,
    capabilities: HostCapabilities,
    *,
    base: Path | None = None,
) -> Layout:
    """Where everything of ``system`` lies, or will; makes nothing.

    Raises :class:`UntrustedDirectoryError`, :class:`SocketPathTooLongError`, and what
    :func:`~.uids.allotted` raises.
    """
    declaration = declaration.resolve()
    state = declaration.parent / STATE_DIRECTORY
    users = None
    if capabilities.isolation is Isolation.USERS:
        users = allotted(state / USERS, str(declaration), system.workloads())
    run = run_directory(declaration.parent, base)
    for directory in (state, run.parent, run):
        require_own(directory)
    layout = Layout(declaration, state, run, capabilities, users)
    _check_sockets(layout, system)
    return layout


def prepare(layout: Layout, system: System) -> None:
    """Makes the directories for ``system``; existing ones are taken if they are ours.

    Raises :class:`UntrustedDirectoryError`.
    """
    state, run, users = own_state(layout.project), layout.run, layout.users
    for name in ("logs", "data", "evidence"):
        own_directory(state / name)
    if users is not None:
        keep(state / USERS, users)
    # Without a root of its own, a process with another uid must pass through.
    passable = 0o711 if layout.capabilities.isolation is Isolation.NONE else 0o700
    own_directory(run.parent, 0o711)
    own_directory(run, passable)
    _point(state / LINK, run)
    own_directory(layout.pods)
    for name in ("xds", "proxies", "workload", "credentials", "servers", "sockets"):
        own_directory(run / name, 0o711)
    given_directory(run / "mesh", (0, users.proxies) if users else None, 0o710)
    for workload in system.workloads():
        _prepare_workload(layout, system, workload)


def lay_out(
    declaration: Path,
    system: System,
    capabilities: HostCapabilities,
    *,
    base: Path | None = None,
) -> Layout:
    """Looks, and makes the directories. Raises as :func:`look` and :func:`prepare` do."""
    layout = look(declaration, system, capabilities, base=base)
    prepare(layout, system)
    return layout


def _prepare_workload(layout: Layout, system: System, workload: str) -> None:
    placement = layout.placement
    owner = layout.owner_of_proxy(workload)
    given_directory(placement.door_directory(workload), owner, 0o710)
    given_directory(placement.proxy_directory(workload), owner, 0o700)
    given_directory(placement.xds_socket(workload).parent, None, 0o711)
    own_directory(layout.pod(workload))
    own_directory(layout.pod(workload) / "root")
    if workload != GATEWAY:
        own_directory(placement.credentials(workload).parent, 0o711)
    if workload in system.services:
        given_directory(placement.workload_api_socket(workload).parent, None, 0o711)
        given_directory(layout.data(workload), layout.owner_of_app(workload), 0o700)
    if (resource := system.resources.get(workload)) and not resource.external:
        owner = layout.owner_of_app(workload)
        own_directory(placement.server_directory(workload), 0o755)
        given_directory(placement.server_sockets(workload), owner, 0o700)
        given_directory(placement.server_data(workload), owner, 0o700)
        _write_users(layout, workload)


def server_user(layout: Layout) -> str:
    """The server's user, by the name that it has in its sandbox."""
    isolated = layout.capabilities.isolation is not Isolation.NONE
    return "server" if isolated else operator_user(layout)


def operator_user(layout: Layout) -> str:
    """The operator, by the name that it has in a server's sandbox."""
    if layout.capabilities.isolation is Isolation.USER_NAMESPACES:
        return "server"  # the same number
    return pwd.getpwuid(os.geteuid()).pw_name


def _write_users(layout: Layout, resource: str) -> None:
    """Servers look their own user up, and whoever connects to their Unix socket."""
    uid, gid = layout.owner_of_app(resource) or (os.geteuid(), os.getegid())
    home = layout.placement.server_data(resource)
    lines = [f"server:x:{uid}:{gid}::{home}:/bin/sh"]
    if uid:
        lines.append("root:x:0:0:root:/root:/bin/sh")
    write_atomically(layout.users_file(resource), "\n".join([*lines, ""]).encode(), 0o644)


def _point(link: Path, target: Path) -> None:
    temporary = link.with_name(".run.new")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    temporary.replace(link)


def _check_sockets(layout: Layout, system: System) -> None:
    for path in _sockets(layout, system):
        if len(os.fsencode(path)) > LONGEST_SOCKET_PATH:
            raise SocketPathTooLongError(path)


def _sockets(layout: Layout, system: System) -> Iterable[Path]:
    placement = layout.placement
    for workload in system.workloads():
        yield placement.admin_socket(workload)
        yield placement.xds_socket(workload)
        if workload in system.services:
            yield placement.workload_api_socket(workload)
        yield layout.pod(workload) / "pod.sock"
    for channel in system.channels:
        yield placement.door(channel.target, channel.source)
    if system.gateway:
        for route in system.gateway.routes:
            yield placement.door(route.target, GATEWAY)
