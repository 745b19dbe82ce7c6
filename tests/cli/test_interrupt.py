"""^C at any moment of any command: one line of ours, and the status of what was not done."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ports import free_port
from watertight.cli.interrupt import told_plainly
from watertight.control.client import AdminClient, GoesOn
from watertight.model.starter import STARTER

MOMENTS = 6
MOST_ROUNDS = 10
HEARS_IT = ("/usr/bin/env", "--default-signal=INT")
"""What runs in the background of a shell has it ignored, and so would its children."""
COMMAND = (sys.executable, "-m", "watertight.cli")


@pytest.fixture
def project() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="wt-") as directory:
        folder = Path(directory)
        folder.chmod(0o755)  # each program is a user of its own
        text = STARTER.replace(":8443", f":{free_port()}")
        (folder / "watertight.yaml").write_text(text)
        yield folder


def interrupted(project: Path, after_seconds: float, *arguments: str) -> tuple[int, str]:
    """As a terminal does it: every process of the group gets the signal."""
    with subprocess.Popen(
        [*HEARS_IT, *COMMAND, *arguments],
        cwd=project,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as running:
        time.sleep(after_seconds)
        os.killpg(running.pid, signal.SIGINT)
        try:
            _, said = running.communicate(timeout=120)
        finally:
            running.kill()  # if it never ended
    return running.returncode, said


def seconds_of(project: Path, *arguments: str) -> float:
    begun = time.monotonic()
    subprocess.run([*COMMAND, *arguments], cwd=project, check=True, capture_output=True)
    return time.monotonic() - begun


@pytest.mark.parametrize("arguments", [("lint",), ("explain", "web", "orders", "GET", "/orders")])
def test_one_line_whenever_it_comes(project: Path, arguments: tuple[str, ...]) -> None:
    statuses = set()
    for _ in range(MOST_ROUNDS):  # on a machine that is busy now and then, none may meet it at work
        whole = seconds_of(project, *arguments)
        for moment in range(MOMENTS):
            status, said = interrupted(project, whole * (moment + 1) / (MOMENTS + 1), *arguments)
            # Before Python has begun with us, or once it ends, the signal ends it.
            assert status in {0, 3, -signal.SIGINT}
            assert said == "Interrupted.\n" or (status != 3 and "Traceback" not in said)
            statuses.add(status)
        if 3 in statuses:
            return
    pytest.fail(f"no moment met it at work: {statuses}")


def test_no_program_that_is_asked_something_is_blamed(project: Path) -> None:
    """`up` asks Envoy for its version and the host for what it allows; ^C meets them, too."""
    for moment in range(MOMENTS):
        status, said = interrupted(project, 0.2 + 0.2 * moment, "up")
        assert status in {0, 3, -signal.SIGINT}
        assert not {"error:", "Traceback"} & set(said.split()), said


def test_what_was_asked_for_goes_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def waits(*_: object) -> tuple[int, bytes]:
        raise KeyboardInterrupt

    client = AdminClient(tmp_path / "admin.sock")
    monkeypatch.setattr("watertight.control.client.exchange", waits)
    with pytest.raises(GoesOn, match="goes on"):
        client.post("/revoke", {})
    with pytest.raises(KeyboardInterrupt):
        client.get("/status")


def test_an_interrupt_that_python_wrapped_is_one() -> None:
    wrapped = RuntimeError("Error calling __set_name__")
    wrapped.__cause__ = KeyboardInterrupt()
    with pytest.raises(SystemExit) as end, told_plainly():
        raise wrapped
    assert end.value.code == 3
    with pytest.raises(RuntimeError), told_plainly():
        raise RuntimeError("of another kind")
