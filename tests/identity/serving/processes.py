"""Real processes for the tests of attestation: they connect to a socket, or start others."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_CONNECT = """
import os, socket, sys
if len(sys.argv) == 3:
    os.setgroups([])
    os.setuid(int(sys.argv[2]))
connection = socket.socket(socket.AF_UNIX)
connection.connect(sys.argv[1])
connection.sendall(b"x")
connection.recv(1)
"""

_SPAWN = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", sys.argv[1], *sys.argv[2:]])
print(child.pid, flush=True)
try:
    child.wait()
finally:
    child.kill()
"""

_ORPHAN = """
import ctypes, os, subprocess, sys
PR_SET_CHILD_SUBREAPER = 36
if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
    raise OSError(ctypes.get_errno(), "prctl")
middle = subprocess.Popen([sys.executable, "-c",
    "import subprocess, sys; subprocess.Popen([sys.executable, '-c', *sys.argv[1:]])",
    *sys.argv[1:]])
middle.wait()
os.wait()
"""


@contextmanager
def process(
    code: str, *arguments: str, before: tuple[str, ...] = ()
) -> Iterator[subprocess.Popen[str]]:
    """Runs Python code in a process of its own; kills it at the end."""
    started = subprocess.Popen(
        [*before, sys.executable, "-I", "-c", code, *arguments],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield started
    finally:
        started.kill()
        started.communicate()


@contextmanager
def caller(path: Path, *, uid: int | None = None) -> Iterator[subprocess.Popen[str]]:
    """A process that connects to ``path`` (with root, as another uid), says a byte and waits."""
    # The uid is changed after the start: another one may not be able to read the interpreter.
    with process(_CONNECT, str(path), *([] if uid is None else [str(uid)])) as started:
        yield started


@contextmanager
def grandparent(path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process whose grandchild connects to ``path``."""
    with process(_SPAWN, _SPAWN, _CONNECT, str(path)) as started:
        yield started


@contextmanager
def subreaper(path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that adopts an orphan, which connects to ``path``."""
    with process(_ORPHAN, _CONNECT, str(path)) as started:
        yield started


NAMESPACES = (
    "unshare",
    "--user",
    "--map-root-user",
    "--pid",
    "--net",
    "--mount-proc",
    "--fork",
    "--kill-child",
)
"""Runs a command as first process of its own namespaces, and as their root."""


def namespaces_allowed() -> bool:
    """Whether this kernel lets us make them."""
    if shutil.which(NAMESPACES[0]) is None:
        return False
    return subprocess.run([*NAMESPACES, "true"], capture_output=True, check=False).returncode == 0


@contextmanager
def sandboxed_orphan(path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process in whose namespaces an orphan connects to ``path``."""
    with process(_ORPHAN, _CONNECT, str(path), before=NAMESPACES) as started:
        yield started


@contextmanager
def listening(path: Path) -> Iterator[socket.socket]:
    """A Unix socket that anyone may connect to; ``accept`` waits at most ten seconds."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        path.chmod(0o666)
        server.listen()
        server.settimeout(10)
        yield server


def accept(server: socket.socket) -> socket.socket:
    """The next connection, once its first byte is there."""
    connection, _ = server.accept()
    connection.settimeout(10)
    assert connection.recv(1) == b"x"
    return connection


def is_root() -> bool:
    """Whether the tests may use other uids."""
    return os.geteuid() == 0
