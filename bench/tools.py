"""The programs that the benches drive and do not come as wheels: found, or installed by apt.

Installing needs root and Debian's apt. Elsewhere the rows that need a missing program are left
out, and said to be.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PACKAGES = {"wrk": "wrk", "nginx": "nginx-light", "haproxy": "haproxy", "stunnel": "stunnel4"}
POLICY = Path("/usr/sbin/policy-rc.d")
INSTALL_SECONDS = 300


def find(program: str) -> str | None:
    """Where a program lies; servers are often outside a user's PATH."""
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


@contextlib.contextmanager
def _no_service_starts() -> Iterator[None]:
    """Debian asks this file whether a freshly installed daemon may start: it may not."""
    if POLICY.exists():
        yield
        return
    POLICY.write_text("#!/bin/sh\nexit 101\n")
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink()


def install_missing() -> None:
    """Installs what is missing if this is root on a Debian; says what to install otherwise."""
    missing = [package for program, package in PACKAGES.items() if find(program) is None]
    if not missing:
        return
    command = f"apt-get install --no-install-recommends {' '.join(missing)}"
    apt = find("apt-get")
    if os.geteuid() != 0 or apt is None:
        print(f"bench: for all rows, install: {command}", file=sys.stderr)
        return
    print(f"bench: {command}", file=sys.stderr)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    with _no_service_starts():
        for words in (
            [apt, "-qq", "update"],
            [apt, "-qq", "install", "-y", "--no-install-recommends", *missing],
        ):
            done = subprocess.run(
                words,
                env=environment,
                capture_output=True,
                text=True,
                timeout=INSTALL_SECONDS,
                check=False,
            )
            if done.returncode:
                print(f"bench: {' '.join(words)}: {done.stderr.strip()}", file=sys.stderr)
                return


def write_result(result: Any, output: Path | None) -> None:
    """One bench's figures as JSON, into ``output`` or on stdout."""
    text = json.dumps(result, indent=1) + "\n"
    if output:
        output.write_text(text)
    else:
        print(text, end="")
