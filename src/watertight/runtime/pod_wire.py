"""What is written down for a pod's init: plain JSON, so that the init imports next to nothing.

The supervisor writes it (:mod:`watertight.runtime.pod_spec`), the init reads it; it lies in a file
of mode 0600 and never in an argument list, for environments may hold secrets.
"""

from typing import Any, Literal, NamedTuple, TypedDict

PROXY = "proxy"
"""The name of the process that goes last when its pod ends."""

MountKind = Literal["bind", "tmpfs", "proc", "directory", "symlink", "empty"]


class Mount(NamedTuple):
    """One step in the making of a process's view of the file system; ``target`` is absolute.

    ``bind``: ``source`` appears at ``target``; ``tmpfs``: an empty directory in memory;
    ``directory``: only made; ``symlink``: ``source`` is what the link says; ``empty``: an empty
    file that cannot be written hides what is there.
    """

    kind: MountKind
    target: str
    source: str = ""
    writable: bool = False
    devices: bool = False


class Credentials(NamedTuple):
    """The user that a process runs as: no supplementary groups."""

    uid: int
    gid: int


class LimitsWire(TypedDict):
    """What a process may use, where the kernel counts by process and user (setrlimit(2))."""

    files: int
    processes: int | None
    """Of its user; None: a control group counts them."""
    data_bytes: int | None
    """Private memory of one process; None: a control group counts that of all."""


class ProcessWire(TypedDict):
    """One process of a pod."""

    name: str
    argv: list[str]
    environment: dict[str, str]
    directory: str
    umask: int
    view: list[list[Any]]
    """:class:`Mount` as lists; empty: the host's file system as it is."""
    stop_signal: int
    credentials: list[int] | None
    """uid and gid to change to; None: stay."""
    nested_user_namespace: bool
    """Ends in a user namespace of its own, without power over the pod's."""
    low_ports: bool
    """Keeps the right to listen below port 1024, and no other, through the change of user."""
    first: bool
    """Is pid 1 of its process namespace itself: it makes no processes, and heeds signals."""
    confined: bool
    """Under the system call filter of :mod:`watertight.runtime.confine`."""
    log: str
    access_log: str
    """Where its stdout goes by itself, as a proxy's access log; empty: with stderr, to ``log``."""
    limits: LimitsWire | None
    process_bytes: int | None
    """Own memory of each process that it makes, beyond which that is ended; a guest's is not."""
    process_most_bytes: int | None
    """Of each, whatever comes: a bound of the kernel's, at which an allocation fails."""
    processes_bytes: int | None
    """That of all together (:mod:`watertight.runtime.memory`)."""
    spared: list[str]
    """Titles of those that are never ended."""
    groups: list[str]
    """The control groups that it runs in (:mod:`watertight.runtime.cgroups`)."""
    settled: dict[str, str]
    """What its start settles, as :mod:`watertight.runtime.settled` has it; only told again."""


class PodWire(TypedDict):
    """One pod."""

    name: str
    directory: str
    namespaces: int
    """:class:`watertight.runtime.linux.Namespace` flags for the pod; 0: none."""
    isolate_processes: bool
    """Each process gets a process and a mount namespace of its own, below the pod's."""
    unread_bytes: int | None
    """What its netlink sockets may hold (:mod:`watertight.runtime.netlink`); None: not looked at,
    for without a network of its own they may be anybody's."""
    processes: list[ProcessWire]


class ProcessStatus(TypedDict):
    """One process, as the init tells it."""

    name: str
    state: Literal["stopped", "starting", "running", "backing-off", "stopping"]
    pid: int | None
    """In the pod's process namespace."""
    restarts: int
    up_seconds: float
    last_exit: str | None
    outdated: list[str]
    """In what it runs with something else than it would be started with now: variables (no values,
    which may be secret), and other keys."""
    settled: dict[str, str]
    """What the start of what runs has settled."""
