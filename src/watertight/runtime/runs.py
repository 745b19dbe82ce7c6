"""Which run directories are of one folder, and what runs in them.

A folder has one system, whatever its declaration is called, and one run directory. An older
version, another ``XDG_RUNTIME_DIR`` or a deleted ``.watertight`` may have left programs in another
one; they are found by what runs. Light: short commands ask.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

from watertight.runtime.files import STATE_DIRECTORY
from watertight.runtime.proc import boot_id, namespace_pids, process_ids, start_time

RECORD = "pod.json"
INIT = b"watertight-pod "
"""How the command line of an init begins; its pod's directory follows."""
LINK = "run"
"""In ``.watertight``: leads to the run directory."""


def run_base() -> Path:
    """The directory in which every system of this user has its run directory."""
    if os.geteuid() == 0:
        return Path("/run/watertight")
    given = os.environ.get("XDG_RUNTIME_DIR", "")
    if given and Path(given).is_dir():
        return Path(given) / "watertight"
    return Path(f"/tmp/watertight-{os.geteuid()}")  # noqa: S108  made 0700 and checked


def run_directory(project: Path, base: Path | None = None) -> Path:
    """The run directory of the system of a folder (resolved); makes nothing.

    The one in which it runs, if it does.
    """
    linked = _linked(project / STATE_DIRECTORY)
    if linked is not None and living(linked):
        return linked
    digest = hashlib.sha256(os.fsencode(project)).hexdigest()[:10]
    return (base or run_base()) / digest


def all_of(project: Path) -> tuple[Path, ...]:
    """Every run directory of a folder: its own first, then those in which something was left."""
    state, own = project / STATE_DIRECTORY, run_directory(project)
    found = {run for run in _in_use() if state_of(run) == state}
    return tuple(run for run in dict.fromkeys((own, *sorted(found))) if run.is_dir())


def living(run: Path) -> tuple[str, ...]:
    """The names of the pods whose init runs."""
    with contextlib.suppress(OSError):
        return tuple(pod.name for pod in sorted((run / "pods").iterdir()) if _lives(pod))
    return ()


def still_run(project: Path) -> tuple[str, ...]:
    """The names of all pods of a folder that run."""
    return tuple(dict.fromkeys(name for run in all_of(project) for name in living(run)))


def holder(state: Path) -> int | None:
    """The process that holds the folder's lock, as far as it can be told; None if nobody does.

    Only looks, for who tried the lock would for that moment keep it from another.
    """
    with contextlib.suppress(OSError, ValueError):
        lock = state / "lock"
        pid, wanted = int(lock.read_text(encoding="ascii")), lock.stat()
        for opened in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                if os.path.samestat(opened.stat(), wanted):
                    return pid
    return None


def _linked(state: Path) -> Path | None:
    """Where the link leads, unless that is another folder's, as in a copy of a folder."""
    try:
        run = (state / LINK).readlink()
    except OSError:
        return None
    told = state_of(run)
    moved = told is not None and not told.exists()
    return run if told in (None, state) or moved else None


def state_of(run: Path) -> Path | None:
    """The ``.watertight`` for which a run directory was made, as its pods' specifications tell."""
    with contextlib.suppress(OSError):
        for pod in sorted((run / "pods").iterdir()):
            with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
                wire = json.loads((pod / "spec.json").read_bytes())
                return Path(wire["processes"][0]["log"]).parents[1]
    return None


def _in_use() -> Iterator[Path]:
    """Those of this user, wherever they are, of which an init tells by its name; see `pod`.

    Any program may call itself so, and an app without root has its operator's uid: in a process
    namespace only the first process is believed, which is ours. Where a pod has none, its programs
    have other uids, or all the rights of the operator anyway.
    """
    for pid in process_ids():
        # Also of names that lead nowhere, and of a kernel that does not tell namespaces.
        with contextlib.suppress(OSError, ValueError, IndexError, StopIteration):
            command = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0")
            if command.startswith(INIT) and namespace_pids(pid)[1:] in ((), (1,)):
                run = Path(os.fsdecode(command.removeprefix(INIT))).parents[1]
                if run.lstat().st_uid == os.geteuid():
                    yield run


def _lives(pod: Path) -> bool:
    try:
        record = json.loads((pod / RECORD).read_bytes())
        pid, started = int(record["pid"]), int(record["start_time"])
        return bool(record["boot_id"] == boot_id() and start_time(pid) == started)
    except (OSError, ValueError, KeyError, TypeError):
        return False
