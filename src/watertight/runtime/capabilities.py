"""What this kernel lets us do, found out by doing it in a child that ends at once."""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from watertight.errors import WatertightError
from watertight.runtime import cgroups, linux
from watertight.runtime.linux import MountFlag, Namespace
from watertight.runtime.uids import FIRST_UID

_TRIAL_SECONDS = 10.0
_ISOLATING = Namespace.NETWORK | Namespace.MOUNT | Namespace.PID | Namespace.UTS | Namespace.IPC


class Isolation(StrEnum):
    """How services are kept apart."""

    USERS = "users"
    """Namespaces, and an unprivileged uid for each app and each proxy (started by root)."""
    USER_NAMESPACES = "user-namespaces"
    """Namespaces within user namespaces (started by anybody)."""
    NONE = "none"
    """The kernel allows no namespaces: everything on the host's loopback, as one user."""


@dataclass(frozen=True, slots=True)
class HostCapabilities:
    """``reason`` says in one sentence why there is no isolation; empty where there is."""

    isolation: Isolation
    reason: str = ""
    cgroups: tuple[Path, ...] = ()
    """Where memory and processes can be bounded (:func:`watertight.runtime.cgroups.find`)."""

    @property
    def shared_network(self) -> bool:
        """Whether all services stand on the host's own loopback."""
        return self.isolation is Isolation.NONE

    @property
    def budget_finding(self) -> str:
        """What the proof must say of limits; empty if the kernel holds them for each workload."""
        if self.cgroups:
            return ""
        return (
            "Memory is bounded for each process and not for each service on this host: there is no "
            "control group that we may divide."
        )

    @property
    def finding(self) -> str:
        """What the proof must list; empty if there is nothing."""
        if self.isolation is not Isolation.NONE:
            return ""
        return (
            "Services are not isolated from one another on this host: they share its loopback "
            f"network, its files and one user, because {self.reason}"
        )


def detect() -> HostCapabilities:
    """Tries the best isolation first, in a process of its own. Leaves nothing behind.

    Raises WatertightError if not even that process can be started.
    """
    command = [sys.executable, "-I", "-m", "watertight.runtime.capabilities"]
    tried = subprocess.run(
        command,
        capture_output=True,
        check=False,
        timeout=4 * _TRIAL_SECONDS,
        text=True,
        start_new_session=True,  # ^C is for us to answer
    )
    if tried.returncode:
        raise WatertightError(
            f"Cannot find out what this host allows: {tried.stderr.strip()[-500:]}",
            remedy="Run `watertight` with the interpreter that it is installed for.",
        )
    answer = json.loads(tried.stdout)
    cgroups = tuple(map(Path, answer["cgroups"]))
    return HostCapabilities(Isolation(answer["isolation"]), answer["reason"], cgroups)


def _detect_here() -> HostCapabilities:
    with tempfile.TemporaryDirectory(prefix="watertight-trial-") as directory:
        root = Path(directory)
        if os.geteuid() == 0:
            as_root = _fails(lambda: _trial(root, user_namespace=False))
            if not as_root:
                return HostCapabilities(Isolation.USERS)
        in_user_namespace = _fails(lambda: _trial(root, user_namespace=True))
    if not in_user_namespace:
        return HostCapabilities(Isolation.USER_NAMESPACES)
    return HostCapabilities(Isolation.NONE, in_user_namespace)


def _fails(attempt: Callable[[], None]) -> str:
    """Runs ``attempt`` in a child; returns why it failed, or nothing."""
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        answer = b"it did not say why."
        try:
            attempt()
            answer = b""
        except Exception as error:  # noqa: BLE001  whatever it is, it is the answer
            answer = str(getattr(error, "message", error)).encode()
        finally:
            os.write(writer, answer)
            os._exit(1 if answer else 0)
    os.close(writer)
    try:
        if not select.select([reader], [], [], _TRIAL_SECONDS)[0]:
            os.kill(pid, signal.SIGKILL)
            return f"a trial of it did not end within {_TRIAL_SECONDS:.0f} s."
        return os.read(reader, 4096).decode()
    finally:
        os.close(reader)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)


def _trial(root: Path, *, user_namespace: bool) -> None:
    """Everything that a pod does, once."""
    uid, gid = os.geteuid(), os.getegid()
    if user_namespace:
        linux.unshare(Namespace.USER)
        linux.map_only_this_user(uid, gid)
    linux.unshare(_ISOLATING)
    linux.bring_up_loopback()
    linux.open_all_ports()
    failure = _fails(lambda: _inner_trial(root, uid, gid, user_namespace=user_namespace))
    if failure:
        raise OSError(failure)


def _inner_trial(root: Path, uid: int, gid: int, *, user_namespace: bool) -> None:
    """As the first process of a process namespace: its own root, /proc and user."""
    linux.mount("none", Path("/"), flags=MountFlag.RECURSIVE | MountFlag.PRIVATE)
    linux.mount("trial", root, "tmpfs", 0, "mode=0755")
    (root / "proc").mkdir()
    linux.mount("proc", root / "proc", "proc")
    (root / "usr").mkdir()
    linux.mount("/usr", root / "usr", flags=MountFlag.BIND | MountFlag.RECURSIVE)
    linux.restrict_mount(root / "usr", MountFlag.READ_ONLY | MountFlag.NO_SUID)
    os.chdir(root)
    linux.pivot_root(Path(), Path())
    linux.detach(Path())
    linux.forbid_new_privileges()
    if user_namespace:
        linux.unshare(Namespace.USER)
        linux.map_only_this_user(uid, gid)
    linux.drop_bounding_set()
    if not user_namespace:
        os.setgroups([])
        os.setresgid(FIRST_UID, FIRST_UID, FIRST_UID)
        os.setresuid(FIRST_UID, FIRST_UID, FIRST_UID)
    linux.drop_capabilities()


if __name__ == "__main__":
    found = _detect_here()
    print(
        json.dumps(
            {
                "isolation": found.isolation,
                "reason": found.reason,
                "cgroups": [str(top) for top in cgroups.find()],
            }
        )
    )
