"""What /proc tells of processes: parents, start times, the pid in each namespace (proc(5))."""

import contextlib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

_PROC = Path("/proc")


def boot_id() -> str:
    """Names this boot; pids of another one mean nothing."""
    return (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat after the command, which may itself hold blanks and brackets."""
    text = (_PROC / str(pid) / "stat").read_text(encoding="ascii", errors="replace")
    return text.rpartition(")")[2].split()


def start_time(pid: int) -> int | None:
    """When the process started, in clock ticks since boot; with the pid it names one process.

    None: there is none, or only a zombie.
    """
    try:
        fields = _stat(pid)
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def process_ids() -> Iterator[int]:
    """Every process that this /proc shows."""
    return (int(entry.name) for entry in _PROC.iterdir() if entry.name.isdigit())


def family() -> dict[int, list[int]]:
    """Parent → children, for every process that runs now."""
    children: dict[int, list[int]] = defaultdict(list)
    for found in process_ids():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            children[int(_stat(found)[1])].append(found)
    return children


def descendants(pid: int, children: Mapping[int, list[int]] | None = None) -> list[int]:
    """All descendants of ``pid``, parents first; ``children`` is :func:`family`'s, if at hand."""
    if children is None:
        children = family()
    order = list(children.get(pid, ()))
    for found in order:
        order.extend(children.get(found, ()))
    return order


def namespace_pids(pid: int) -> tuple[int, ...]:
    """The pid of one process in each process namespace, from ours down to its own (NSpid)."""
    text = (_PROC / str(pid) / "status").read_text(encoding="utf-8", errors="replace")
    line = next(line for line in text.splitlines() if line.startswith("NSpid:"))
    return tuple(int(word) for word in line.split()[1:])
