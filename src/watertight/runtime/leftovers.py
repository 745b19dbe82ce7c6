"""Ends what a pod left behind where there is no process namespace that ends with it."""

import contextlib
import os
import signal
from pathlib import Path

from watertight.runtime.environment import POD_MARK
from watertight.runtime.proc import process_ids


def end_marked(pod: Path) -> tuple[int, ...]:
    """Kills every process whose environment carries the mark of ``pod``; returns their pids."""
    mark = f"{POD_MARK}={pod}".encode()
    ended = []
    for pid in process_ids():
        with contextlib.suppress(OSError):
            descriptor = os.pidfd_open(pid)
            try:
                if mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                    signal.pidfd_send_signal(descriptor, signal.SIGKILL)
                    ended.append(pid)
            finally:
                os.close(descriptor)
    return tuple(ended)
