"""``up --detach``: a control plane without a terminal."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

from watertight.cli.logging import UP_LOG
from watertight.cli.output import say
from watertight.cli.project import admin_client
from watertight.control.client import AdminClient
from watertight.control.requests import Options
from watertight.errors import WatertightError
from watertight.runtime.files import STATE_DIRECTORY, own_directory

START_DEADLINE_SECONDS = 180.0
POLL_SECONDS = 0.1
LAST_LINES = 12
MOST_LINES = 40
STOPPED = (0, -signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP)
"""How it ends if somebody asks it to: by itself, or before it can say so."""
_ERROR = re.compile(r"error: |\S.*:\d+:\d+: error WT-E\d+: ")
"""An error of its own, or of the declaration."""
_PROGRESS = re.compile(
    r"[a-z0-9-]+ (is ready|is not ready yet|is still revoked|runs)\b|\d+ prox(y|ies) ready"
    r"|[a-z0-9-]+: .* waits until it is there|Only \d+ files may be open"
)
"""What it says that whoever waits may want to know meanwhile."""


def start_in_background(options: Options) -> int:
    """Starts ``up`` as a process of its own; returns its pid once the system is sealed.

    Raises WatertightError with what it said last if it ends before.
    """
    state = options.declaration.parent / STATE_DIRECTORY
    log = own_directory(own_directory(state) / "logs") / UP_LOG
    command = [
        *(sys.executable, "-I", "-m", "watertight.cli", "up", str(options.declaration)),
        "--no-logs",
        *("--svid-ttl", str(options.svid_ttl_seconds)),
        *(["--watch"] if options.watch else []),
    ]
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:  # else `nohup` has it ignored
            signal.signal(number, signal.default_int_handler)
    with log.open("ab") as output:
        begins = output.tell()
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait_until_sealed(admin_client(options.declaration), process, log, begins)
    except BaseException:  # also Ctrl-C and the like: nobody would know of it
        process.terminate()
        process.wait()
        raise
    return process.pid


def _wait_until_sealed(
    client: AdminClient, process: subprocess.Popen[bytes], log: Path, begins: int
) -> None:
    """Until it is this process that answers: another one may run the system already."""
    deadline = time.monotonic() + START_DEADLINE_SECONDS
    with log.open(encoding="utf-8", errors="replace") as output:
        output.seek(begins)
        while client.pid() != process.pid:
            ended = process.poll() is not None
            _tell(output.read())
            if ended:
                raise _why(process.returncode, log, begins)
            if time.monotonic() > deadline:
                raise WatertightError(
                    f"It did not come up within {START_DEADLINE_SECONDS:.0f} s.",
                    remedy=f"See {log}.",
                )
            time.sleep(POLL_SECONDS)
        _tell(output.read())


def _tell(said: str) -> None:
    """What of it is progress."""
    for line in said.splitlines():
        if _PROGRESS.match(line):
            say(line)


def _why(status: int, log: Path, begins: int) -> WatertightError:
    """Its own errors, as it said them; else all that it said last."""
    if status in STOPPED:
        return WatertightError(
            "It was stopped while it came up, by `watertight down` or a signal.",
            remedy="`watertight up --detach` starts it again.",
        )
    said = log.read_bytes()[begins:].decode(errors="replace").splitlines()
    errors = [number for number, line in enumerate(said) if _ERROR.match(line)]
    last = said[errors[0] :][:MOST_LINES] if errors else said[-LAST_LINES:]
    text = "\n".join(last).removeprefix("error:").strip()
    if not text:
        full = not os.statvfs(log.parent).f_bavail
        text = f"no space is left in {log.parent}." if full else f"it said nothing ({status})."
    return WatertightError(f"It did not come up: {text}", remedy=f"See {log}.")
