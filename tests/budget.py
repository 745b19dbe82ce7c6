"""A control group of a test's own, into which a server is put."""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from watertight.runtime.cgroups import Cgroups, find

PROCESSES = 1024
GONE_SECONDS = 60
"""A group can be removed once the kernel has given back what its last process held."""


@contextmanager
def budget(memory_bytes: int) -> Iterator[Sequence[str]]:
    """Its directories; the test is skipped where none can be made, as without root."""
    tops = find()
    if not tops:
        pytest.skip("no control group may be made here")
    groups = Cgroups(tops, f"test-{os.getpid()}")
    groups.make("server", memory_bytes, PROCESSES)
    try:
        yield groups.groups("server")
    finally:
        deadline = time.monotonic() + GONE_SECONDS
        while any(Path(group).exists() for group in groups.groups("server")):
            groups.remove_all()
            assert time.monotonic() < deadline, "something still runs in the group"
        groups.remove_all()


def most_bytes(groups: Sequence[str]) -> int:
    """The most memory that was ever in use in it, with what the kernel could take back."""
    for group in groups:
        for name in ("memory.peak", "memory.max_usage_in_bytes"):
            if (Path(group) / name).exists():
                return int((Path(group) / name).read_text())
    raise AssertionError("a kernel before 5.19 tells no peak of version 2")


def killed(groups: Sequence[str]) -> int:
    """How many processes the kernel has ended for want of memory."""
    for group in groups:
        for name in ("memory.events", "memory.oom_control"):
            if (Path(group) / name).exists():
                lines = (line.split() for line in (Path(group) / name).read_text().splitlines())
                return next(int(value) for key, value in lines if key == "oom_kill")
    raise AssertionError("no group counts memory")
