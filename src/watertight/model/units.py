"""Durations, rates and sizes as the declaration writes them."""

from watertight.model.system import Limit, Limits

_WINDOWS = {1: "s", 60: "m", 3600: "h"}


def counted(number: int, one: str, many: str = "") -> str:
    """``1 channel``, ``2 proxies``."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def duration_text(seconds: float) -> str:
    """``2s``, ``500ms``: the shortest spelling; a fraction of a millisecond is rounded."""
    milliseconds = round(seconds * 1000)
    return f"{milliseconds}ms" if milliseconds % 1000 else f"{milliseconds // 1000}s"


def rate_text(limit: Limit) -> str:
    """``100/s``, ``20/m``, ``5/h``."""
    unit = _WINDOWS.get(limit.window_seconds, f"{limit.window_seconds}s")
    return f"{limit.requests}/{unit}"


def size_text(size_bytes: int) -> str:
    """``1MiB``: the largest unit that divides it."""
    for unit, factor in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size_bytes % factor == 0:
            return f"{size_bytes // factor}{unit}"
    return f"{size_bytes}B"


def limits_text(limits: Limits) -> str:
    """``1GiB of memory, 1024 processes, 256MiB of temporary files, 16384 open files``."""
    return (
        f"{size_text(limits.memory_bytes)} of memory, {limits.processes} processes, "
        f"{size_text(limits.temp_bytes)} of temporary files, {limits.files} open files"
    )
