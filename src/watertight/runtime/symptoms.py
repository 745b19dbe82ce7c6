"""What to do about a program that does not start, from how it ended and what it said last."""

import re
import sys
from collections.abc import Callable

_SAID: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], str]], ...] = (
    (
        re.compile(r"No module named '?(?P<module>[\w.]+)"),
        lambda match: (
            f"`python` in `run` is the one that runs watertight ({sys.executable}): install "
            f"`{match['module']}` there, or name your own, as `.venv/bin/python`."
        ),
    ),
    (
        re.compile(r"KeyError: '(?P<name>[A-Z][A-Z0-9_]+)'"),
        lambda match: (
            f"If `{match['name']}` is a variable, declare it under the service's `environment`; "
            "`watertight env` prints those that it has."
        ),
    ),
    (
        re.compile(r"[Aa]ddress already in use|EADDRINUSE"),
        lambda _: (
            "Bind 127.0.0.1 and not 0.0.0.0: its proxy listens for it on other addresses of its "
            "loopback. Else another process of its own has the port."
        ),
    ),
    (
        re.compile(r"[Pp]ermission denied|EACCES"),
        lambda _: (
            "It writes only below $WATERTIGHT_DATA (its HOME) and in /tmp. To read a file: if root "
            "started watertight, each app is a user of its own, so let others read the project "
            "(chmod -R o+rX)."
        ),
    ),
    (
        re.compile(r"Read-only file system|EROFS"),
        lambda _: (
            "A service writes only below $WATERTIGHT_DATA (its HOME) and in /tmp; the project is "
            "read-only for it."
        ),
    ),
    (
        re.compile(
            r"[Nn]ame or service not known|[Nn]ame resolution|ENOTFOUND|EAI_AGAIN|no such host"
        ),
        lambda _: "It reaches only what a channel leads to, by the name that the channel gives.",
    ),
    (
        re.compile(r"MemoryError|[Oo]ut ?[Oo]f ?[Mm]emory|[Cc]annot allocate memory|ENOMEM"),
        lambda _: "Give it more `limits: {memory: …}`.",
    ),
    (
        re.compile(r"can't start new thread|[Rr]esource temporarily unavailable|EAGAIN"),
        lambda _: "Give it more `limits: {processes: …}` (threads count).",
    ),
    (
        re.compile(r"[Nn]o such file or directory|ENOENT|[Cc]annot find module"),
        lambda _: (
            "Files are looked for from the service's `directory`; it sees the project, its own "
            "data and the system's programs, and nothing else of this host."
        ),
    ),
)
_ENDED = {
    "exit status 0": "It ended without an error: a service stays in the foreground.",
    "killed by SIGKILL": "Was it its memory? See `limits: {memory: …}`.",
    "killed by SIGSYS": "It made a system call that no service may make.",
}


def remedy_for(how: str, lines: list[str]) -> str:
    """``how``: as it ended, "" if it runs; ``lines``: the last that it said, oldest first."""
    for line in reversed(lines):
        for pattern, remedy in _SAID:
            if (match := pattern.search(line)) is not None:
                return remedy(match)
    return _ENDED.get(how, "")
