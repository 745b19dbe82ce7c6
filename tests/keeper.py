"""Whatever becomes of a run of the tests, nothing of it is left: no process, file, mount or group.

Fixtures clean up behind themselves, and who interrupts a run gives them no time to: pytest-xdist
kills its workers ten seconds after Ctrl-C, and SIGTERM ends pytest on the spot. So what the shell
started as ``pytest`` keeps house, and pytest runs in a child of it. Every orphan of the run becomes
the keeper's, and every temporary file lies in one directory of the run's own.
"""

import contextlib
import hashlib
import math
import os
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from watertight.runtime import linux
from watertight.runtime.cgroups import Cgroups, find
from watertight.runtime.files import STATE_DIRECTORY
from watertight.runtime.runs import run_base, state_of

PASSED_ON_SECONDS = 1.0
"""A terminal, and ``kill`` of a group, tell pytest too; two at once would spoil its last words."""
INTERRUPTED_SECONDS = 30.0
"""What pytest has, once interrupted, for what it does in the end."""
SETTLED_SECONDS = 10.0
"""An orphan may need a moment to see that what it works for has ended."""
KILLED_SECONDS = 30.0
_ENDING = (signal.SIGTERM, signal.SIGHUP)
_OF_ROOTLESS_RUNS = Path("/tmp/watertight-65534")
"""Where the systems run that root's tests start as nobody."""


def keep_house() -> None:
    """Returns in a child, in which pytest goes on. Who called it ends with the child's status."""
    heard = {signal.SIGCHLD, *_ENDING}
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # as in the background of a shell
        heard.add(signal.SIGINT)
    signal.pthread_sigmask(signal.SIG_BLOCK, heard)
    home = _home()
    linux.adopt_orphans()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if not child:
        linux.die_with_parent(signal.SIGKILL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, heard)
        os.environ["TMPDIR"] = tempfile.tempdir = str(home)
        return
    status = 1
    try:
        status = _status(child, heard)
        if status in (0, 1) and (left := _left(home)):
            _say(f"Tests left something behind, which is ended and removed now: {left}")
            status = 1
        _end_descendants()
        _remove(home)
    except Exception as error:  # noqa: BLE001 - and then ended, whatever it is
        _say(f"Something is left of the tests: {error!r}")
        status = status or 1
    finally:
        os._exit(status)


def _home() -> Path:
    """A short directory, for sockets lie below it; open to the users that servers run as."""
    while True:
        home = Path("/tmp") / f"w{secrets.token_hex(2)}"
        with contextlib.suppress(FileExistsError):
            home.mkdir()
            home.chmod(0o1777)
            return home


def _status(child: int, heard: set[signal.Signals]) -> int:
    """Waits until pytest has ended, or has to; its exit status, as a shell has it."""
    pass_on_at = end_at = math.inf
    while (ended := _reap(child)) is None:
        told = signal.sigtimedwait(heard, 3600.0 if end_at == math.inf else PASSED_ON_SECONDS)
        now = time.monotonic()
        if (told and told.si_signo in _ENDING) or now > end_at:
            return 128 + (told.si_signo if told else signal.SIGINT)
        if told and told.si_signo == signal.SIGINT:
            pass_on_at = now + PASSED_ON_SECONDS
            end_at = min(end_at, now + INTERRUPTED_SECONDS)
        elif now > pass_on_at:
            os.kill(child, signal.SIGINT)
            pass_on_at = math.inf
    return ended


def _reap(child: int) -> int | None:
    """Buries orphans; the status of pytest if it has ended."""
    while True:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            return 128 - code if code < 0 else code
        if not pid:
            return None


def _end_descendants() -> None:
    """Until there is none. Raises TimeoutError if one cannot be ended."""
    deadline = time.monotonic() + KILLED_SECONDS
    with contextlib.suppress(ChildProcessError):
        while True:
            for pid in _descendants(os.getpid()):
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
            if time.monotonic() > deadline:
                raise TimeoutError(f"still running: {[*_descendants(os.getpid())]}")
            time.sleep(0.01)


def _left(home: Path) -> list[str]:
    """What tests that ran to their end should have ended and removed themselves."""
    deadline = time.monotonic() + SETTLED_SECONDS
    while (running := [*_descendants(os.getpid())]) and time.monotonic() < deadline:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(-1, os.WNOHANG)
        time.sleep(0.05)
    found = [f"{pid} {_name(pid)}" for pid in running]
    return found + [str(p) for p in home.iterdir() if not p.name.startswith("pytest-of-")]


def _name(pid: int) -> str:
    with contextlib.suppress(OSError):
        return (
            Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        )
    return "ended"


def _descendants(pid: int) -> Iterator[int]:
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text(encoding="ascii").split():
                yield int(child)
                yield from _descendants(int(child))


def _remove(home: Path) -> None:
    """The run's own directory, and what systems in it have elsewhere. Raises OSError."""
    for line in reversed(Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()):
        if Path(mounted := line.split()[4]).is_relative_to(home):
            linux.detach(Path(mounted))
    tops = find()
    for run in _run_directories(home):
        Cgroups(tops, run.name).remove_all()
        shutil.rmtree(run, ignore_errors=True)
    if os.geteuid() == 0:
        with contextlib.suppress(OSError):
            _OF_ROOTLESS_RUNS.rmdir()  # unless another run has systems there
    shutil.rmtree(home)


def _run_directories(home: Path) -> Iterator[Path]:
    """Of every system whose folder is or was in ``home``, whether it still has one or not."""
    states = list(home.rglob(STATE_DIRECTORY))
    names = {hashlib.sha256(os.fsencode(state.parent)).hexdigest()[:10] for state in states}
    for base in {run_base(), _OF_ROOTLESS_RUNS}:
        for run in base.iterdir() if base.is_dir() else ():
            state = state_of(run)
            if run.name in names or (state and state.is_relative_to(home)):
                names.discard(run.name)
                yield run
    yield from (run_base() / name for name in names)  # its groups may be left


def _say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)
