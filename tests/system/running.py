"""A system under test: the command itself, on a copy of an example, with or without root."""

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from tests.folders import public_folder
from tests.ports import free_port
from watertight.runtime.runs import still_run

REPOSITORY = Path(__file__).resolve().parents[2]
SHOP = REPOSITORY / "examples" / "shop"
NOBODY = 65534
START_SECONDS = 400.0
SMALL = """\
trust_domain: small.internal
services:
  web:
    run: [python, -m, http.server, "8000", --bind, 127.0.0.1]
    listens: {{http: 8000}}
gateway:
  hostname: localhost
  listen: 127.0.0.1:{port}
  routes:
    - {{path: /, to: web, require: anyone}}
"""
"""One service behind a gateway; the shop costs four times the processor."""


class RunningSystem:
    """One system in a directory of its own; as the user nobody if not ``as_root``."""

    def __init__(self, project: Path, *, as_root: bool) -> None:
        self.project = project
        self.declaration = project / "watertight.yaml"
        self.as_root = as_root
        self.gateway_port = 0
        self._up: subprocess.Popen[bytes] | None = None
        self._output = project / "up.out"

    @property
    def state(self) -> Path:
        """``.watertight/`` of this system."""
        return self.project / ".watertight"

    def command(self, *arguments: str) -> list[str]:
        """argv of ``watertight …``, as the user who runs this system."""
        python = [sys.executable]
        if os.geteuid() == 0 and not self.as_root:
            python += ["-m", "tests.runtime.as_nobody"]
        return [*python, "-m", "watertight.cli", *arguments]

    def watertight(self, *arguments: str, expect: int = 0) -> subprocess.CompletedProcess[str]:
        """Runs the command to its end and holds it to its exit status."""
        done = subprocess.run(
            self.command(*arguments),
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=START_SECONDS,
            check=False,
        )
        assert done.returncode == expect, f"{arguments}: {done.returncode}\n{done.stderr}"
        return done

    def on(self, command: str, *arguments: str, expect: int = 0) -> str:
        """A command that takes ``--file``; its stdout."""
        return self.watertight(
            command, *arguments, "--file", str(self.declaration), expect=expect
        ).stdout

    def status(self) -> dict[str, Any]:
        """What ``watertight status`` says."""
        done = self.watertight("status", str(self.project), "-o", "json")
        document: dict[str, Any] = json.loads(done.stdout)
        return document

    def start(self, *options: str) -> None:
        """``watertight up`` in the foreground of a process of its own; returns once sealed."""
        with self._output.open("wb") as output:
            self._up = subprocess.Popen(
                self.command("up", str(self.project), "--no-logs", *options),
                cwd=REPOSITORY,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self.wait_for_output("Sealed:")

    def wait_for_output(self, text: str, *, deadline_seconds: float = START_SECONDS) -> None:
        """Until ``up`` has said ``text``; fails if it ends before."""
        assert self._up is not None
        deadline = time.monotonic() + deadline_seconds
        while text not in self.output():
            assert self._up.poll() is None, f"`up` ended:\n{self.output()}"
            assert time.monotonic() < deadline, f"`up` did not say {text!r}:\n{self.output()}"
            time.sleep(0.05)

    def output(self) -> str:
        """All that ``up`` has printed."""
        return self._output.read_text(errors="replace")

    def control_pid(self) -> int:
        """The control process, from the lock that it holds."""
        return int((self.state / "lock").read_text())

    def kill_control(self) -> None:
        """``kill -9``: no chance to clean up anything."""
        os.kill(self.control_pid(), signal.SIGKILL)
        assert self._up is not None
        self._up.wait(10)

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        """Ctrl-C; returns the exit status of ``up``."""
        assert self._up is not None
        self._up.send_signal(number)
        status = self._up.wait(60)
        self._up = None
        return status

    def end(self) -> None:
        """Whatever happened: nothing is left running."""
        if self._up is not None and self._up.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.stop()
        for record in (self.state / "run").glob("pods/*/pod.json"):
            with contextlib.suppress(OSError, ValueError, KeyError):
                os.kill(int(json.loads(record.read_bytes())["pid"]), signal.SIGKILL)
        if self._up is not None:
            self._up.kill()
            self._up.wait(10)

    def pod_process(self, name: str) -> int:
        """The init of one pod, as this host numbers it."""
        record = json.loads((self.state / "run" / "pods" / name / "pod.json").read_bytes())
        return int(record["pid"])

    def drive_traffic(self) -> None:
        """The shop's own traffic script: every answer is the one it should be."""
        done = subprocess.run(
            [
                *(sys.executable, str(self.project / "traffic.py")),
                *("--ca", str(self.state / "ca.pem")),
                *("--gateway", f"127.0.0.1:{self.gateway_port}", "--rounds", "1"),
            ],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    async def load(self, service: str, plan: dict[str, Any]) -> dict[str, Any]:
        """Runs ``load.py`` inside a service's sandbox, as its app; returns what it counted."""
        source = (Path(__file__).parent / "load.py").read_text()
        request = json.dumps(
            {
                "op": "execute",
                "process": "app",
                "argv": [sys.executable, "-I", "-c", source, json.dumps(plan)],
            }
        )
        pod_socket = self.state / "run" / "pods" / service / "pod.sock"
        reader, writer = await asyncio.open_unix_connection(str(pod_socket.resolve()))
        writer.write(request.encode() + b"\n")
        started = json.loads(await reader.readline())
        assert started.get("ok"), started
        async with asyncio.timeout(plan["seconds"] + 30):
            answer = await reader.read()
        writer.close()
        result: dict[str, Any] = json.loads(answer)
        return result


class SmallSystem(RunningSystem):
    """:data:`SMALL`, for what does not depend on what the services are."""

    def drive_traffic(self) -> None:
        """One request from outside, to a gateway for which the system's authority vouches."""
        context = ssl.create_default_context(cafile=str(self.state / "ca.pem"))
        with httpx.Client(verify=context, trust_env=False, timeout=60) as client:
            assert client.get(f"https://localhost:{self.gateway_port}/").status_code == 200


@contextlib.contextmanager
def small_system(*, as_root: bool) -> Iterator[SmallSystem]:
    """:data:`SMALL`, in a directory that its user owns, with a port of its own; not started."""
    with public_folder() as project:
        system = SmallSystem(project, as_root=as_root)
        system.gateway_port = free_port()
        system.declaration.write_text(SMALL.format(port=system.gateway_port))
        if os.geteuid() == 0 and not as_root:
            for path in (project, system.declaration):
                os.chown(path, NOBODY, NOBODY)
        try:
            yield system
        finally:
            if still_run(project.resolve()):
                subprocess.run(system.command("down", str(project)), cwd=REPOSITORY, check=False)
            system.end()


@contextlib.contextmanager
def shop(*, as_root: bool) -> Iterator[RunningSystem]:
    """The shop, in a directory that its user owns, with a gateway port of its own; not started."""
    directory = Path(tempfile.mkdtemp(prefix="wt-shop-"))
    try:
        project = directory / "shop"
        ignore = shutil.ignore_patterns(".watertight", ".login", "jwks.json", "__pycache__")
        shutil.copytree(SHOP, project, ignore=ignore)
        subprocess.run(
            [sys.executable, str(project / "login.py"), "prepare"], check=True, capture_output=True
        )
        system = RunningSystem(project, as_root=as_root)
        system.gateway_port = free_port()
        text = system.declaration.read_text()
        text = re.sub(r"listen: 127\.0\.0\.1:\d+", f"listen: 127.0.0.1:{system.gateway_port}", text)
        system.declaration.write_text(text)
        if os.geteuid() == 0 and not as_root:
            for path in (directory, *directory.rglob("*")):
                os.chown(path, NOBODY, NOBODY)
        else:
            directory.chmod(0o755)
        try:
            yield system
        finally:
            system.end()
    finally:
        shutil.rmtree(directory, ignore_errors=True)
