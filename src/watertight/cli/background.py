"""``up --detach`` and ``down``: a control plane without a terminal."""

import contextlib
import fcntl
import subprocess
import sys
import time
from pathlib import Path

from watertight.cli.project import admin_client
from watertight.control.server import Options
from watertight.errors import WatertightError
from watertight.runtime.layout import STATE_DIRECTORY

START_DEADLINE_SECONDS = 180.0
STOP_DEADLINE_SECONDS = 60.0
POLL_SECONDS = 0.1
LAST_LINES = 12


def start_in_background(options: Options) -> None:
    """Starts ``up`` as a process of its own and returns once the system is sealed.

    Raises WatertightError with what it said last if it ends before.
    """
    state = options.declaration.parent / STATE_DIRECTORY
    (state / "logs").mkdir(mode=0o700, parents=True, exist_ok=True)
    log = state / "logs" / "up.log"
    command = [
        *(sys.executable, "-I", "-m", "watertight.cli", "up", str(options.declaration)),
        "--no-logs",
        *("--svid-ttl", str(options.svid_ttl_seconds)),
        *(["--watch"] if options.watch else []),
    ]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    client = admin_client(options.declaration)
    deadline = time.monotonic() + START_DEADLINE_SECONDS
    while not client.is_running():
        if process.poll() is not None:
            last = log.read_text(errors="replace").splitlines()[-LAST_LINES:]
            raise WatertightError("It did not come up:\n" + "\n".join(last), remedy=f"See {log}.")
        if time.monotonic() > deadline:
            process.terminate()
            raise WatertightError(
                f"It did not come up within {START_DEADLINE_SECONDS:.0f} s.",
                remedy=f"See {log}.",
            )
        time.sleep(POLL_SECONDS)
    options.say(f"Sealed and running (process {process.pid}). Stop it with `watertight down`.")


def wait_until_stopped(state: Path) -> None:
    """Returns once nobody holds the system. Raises WatertightError if that takes too long."""
    deadline = time.monotonic() + STOP_DEADLINE_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(BlockingIOError), (state / "lock").open("r+b") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        time.sleep(POLL_SECONDS)
    raise WatertightError(
        f"It did not stop within {STOP_DEADLINE_SECONDS:.0f} s.",
        remedy="See .watertight/logs/control.log.",
    )
