"""What a program said last tells what to do, the last line first."""

import pytest

from watertight.runtime.symptoms import remedy_for


@pytest.mark.parametrize(
    ("how", "line", "says"),
    [
        ("exit status 1", "ModuleNotFoundError: No module named 'flask'", "install `flask` there"),
        ("exit status 1", "/x/python3: No module named uvicorn", "install `uvicorn` there"),
        ("exit status 1", "OSError: [Errno 98] Address already in use", "Bind 127.0.0.1"),
        ("exit status 1", "Error: listen EADDRINUSE: 0.0.0.0:80", "Bind 127.0.0.1"),
        ("exit status 1", "OSError: [Errno 30] Read-only file system: 'x'", "$WATERTIGHT_DATA"),
        ("exit status 2", "can't open file 'a.py': [Errno 13] Permission denied", "o+rX"),
        ("exit status 1", "KeyError: 'DATABASE_URL'", "declare it under the service's"),
        ("exit status 1", "KeyError: 'name'", ""),
        ("exit status 1", "getaddrinfo ENOTFOUND api.example", "what a channel leads to"),
        ("exit status 1", "MemoryError", "`limits: {memory: …}`"),
        ("exit status 1", "RuntimeError: can't start new thread", "`limits: {processes: …}`"),
        ("exit status 1", "Error: Cannot find module './server'", "`directory`"),
        ("killed by SIGKILL", "Listening", "`limits: {memory: …}`"),
        ("exit status 0", "Forked to the background", "stays in the foreground"),
        ("exit status 3", "no luck", ""),
    ],
)
def test_what_was_said_tells_what_to_do(how: str, line: str, says: str) -> None:
    remedy = remedy_for(how, ["Traceback (most recent call last):", line])
    assert says in remedy
    assert bool(remedy) == bool(says)


def test_the_last_line_that_tells_something_counts() -> None:
    lines = ["warning: Permission denied", "No module named 'x'", "Traceback"]
    assert "install `x`" in remedy_for("exit status 1", lines)
