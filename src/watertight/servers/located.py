"""What a program that was found on this machine says of itself."""

import re
import subprocess
from functools import cache
from pathlib import Path

_SECONDS = 10.0


@cache
def version_of(program: Path, pattern: re.Pattern[str]) -> tuple[int, ...] | None:
    """The groups of ``pattern`` in what ``program --version`` says; None if it says no such thing.

    Programs that refuse to run as root say their version to root, too.
    """
    try:
        answer = subprocess.run(
            [program, "--version"],
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=True,
            start_new_session=True,  # ^C is for us to answer
        )
    except (OSError, subprocess.SubprocessError):
        return None
    match = pattern.search(answer.stdout + answer.stderr)
    return tuple(int(part) for part in match.groups()) if match else None
