"""`watertight restart`: new code for one service, and nothing else is touched."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from watertight.control.client import ADMIN_SOCKET, AdminClient
from watertight.runtime.files import STATE_DIRECTORY
from watertight.runtime.proc import process_ids
from watertight.runtime.runs import holder, run_directory, still_run

SERVER = """
import http.server, sys, time
time.sleep({slow})
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(b"{version}")
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
GRACEFUL = """
import asyncio, signal, sys, time
time.sleep({slow})
async def serve(reader, writer):
    head = (await reader.readuntil(b"\\r\\n\\r\\n")).decode().lower()
    if "content-length: " in head:
        await reader.readexactly(int(head.split("content-length: ")[1].split("\\r")[0]))
    writer.write(b"HTTP/1.1 200 OK\\r\\nconnection: close\\r\\ncontent-length: 0\\r\\n\\r\\n")
    writer.close()
async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", int(sys.argv[1]))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, server.close)
    await server.wait_closed()
    await asyncio.sleep(0.2)  # for what it still does
asyncio.run(main())
"""
CARELESS = """
import http.server, sys, time
time.sleep({slow})
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        self.rfile.read(int(self.headers.get("content-length", 0)))
        time.sleep(0.05)
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()
    do_POST = do_GET
    def log_message(self, *words):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
"""Ends at once, in the middle of what it does."""
ASKING = """
import http.client, itertools, threading, time
def ask(method, body):
    for number in itertools.count():
        try:
            connection = http.client.HTTPConnection("worker", 8001, timeout=60)
            connection.request(method, "/", body)
            said = connection.getresponse().status
        except Exception as error:
            said = repr(error)
        print(f"{method} {number} {said}\\n", end="", flush=True)
        time.sleep(0.05)
for method, body in 4 * (("GET", None), ("POST", "x" * 10_000)):
    threading.Thread(target=ask, args=(method, body), daemon=True).start()
time.sleep(1_000)
"""
DECLARATION = """
trust_domain: again.internal
services:
  web: {run: [python3, web.py, "8000"], listens: {http: 8000}}
  worker: {run: [python3, worker.py, "8001"], listens: {http: 8001}}
channels:
  - {from: web, to: worker, allow: [GET /]}
"""
SLOW = """\
  slow: {run: [python3, slow.py, "8002"], listens: {http: 8002}}
channels:"""


class System:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, name: str, version: str, *, slow: float = 0) -> None:
        (self.folder / f"{name}.py").write_text(
            SERVER.replace("{version}", version).replace("{slow}", str(slow))
        )

    def argv(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "watertight.cli", *arguments]

    def watertight(self, *arguments: str, expect: int = 0) -> str:
        done = subprocess.run(
            self.argv(*arguments),
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=200,
        )
        assert done.returncode == expect, done.stdout + done.stderr
        return done.stdout + done.stderr

    def status(self) -> dict[str, Any]:
        """What ``watertight status`` tells, without the start of a command each time."""
        folder = self.folder.resolve()
        return AdminClient(run_directory(folder) / ADMIN_SOCKET, folder).get("/status")

    def until_changing(self, what: str, by: "subprocess.Popen[bytes]") -> None:
        while self.status()["changing"] != what:
            assert by.poll() is None, "it ended, and nobody was told that it was under way"
            time.sleep(0.05)

    def put_back(self) -> None:
        """As it was declared."""
        for name in ("web", "worker"):
            self.write(name, "one")
        if (self.folder / "watertight.yaml").read_text() != DECLARATION:
            (self.folder / "watertight.yaml").write_text(DECLARATION)
            self.watertight("apply")

    def up_seconds(self) -> dict[str, float]:
        return {
            f"{service['name']}/{process['name']}": process["up_seconds"]
            for service in self.status()["services"]
            for process in service["processes"]
        }


@pytest.fixture(scope="module")
def running() -> Iterator[System]:
    with tempfile.TemporaryDirectory(prefix="wt-") as directory:
        folder = Path(directory)
        folder.chmod(0o755)
        system = System(folder)
        (folder / "watertight.yaml").write_text(DECLARATION)
        for name in ("web", "worker"):
            system.write(name, "one")
        system.watertight("up", "--detach")
        try:
            yield system
        finally:
            system.watertight("down")


@pytest.fixture
def system(running: System) -> Iterator[System]:
    yield running
    running.put_back()


def test_one_program_is_new_and_all_else_goes_on(system: System) -> None:
    before = system.up_seconds()
    begun = time.monotonic()
    system.write("worker", "two", slow=1.5)
    restarting = subprocess.Popen(
        system.argv("restart", "worker", "-o", "json"), cwd=system.folder, stdout=subprocess.PIPE
    )
    with restarting:
        system.until_changing("restart of worker", restarting)  # and it does not wait for it
        (restarted,) = json.loads(restarting.communicate()[0])["restarted"]
    assert restarted["service"] == "worker"
    assert restarted["seconds"] >= 1.5
    after, passed = system.up_seconds(), time.monotonic() - begun
    assert system.status()["changing"] == ""
    assert after.pop("worker/app") < passed
    before.pop("worker/app")
    assert all(after[name] >= seconds for name, seconds in before.items())


def test_who_lacks_the_variables_of_a_new_channel_is_named_until_it_has_them(
    system: System,
) -> None:
    file = system.folder / "watertight.yaml"
    more = DECLARATION + "  - {from: worker, to: web, allow: [GET /]}\n"
    file.write_text(more)
    assert "`watertight restart worker`" in system.watertight("apply")
    said = " ".join(system.watertight("status").split())  # and is no reason to fail
    assert "worker: its app runs on with other settings" in said
    assert "(WEB_URL)" in said
    assert outdated(system) == {"worker/app": ["WEB_URL"]}
    system.watertight("restart", "worker")
    assert outdated(system) == {}
    # It has them now, and has them still when the channel is back.
    file.write_text(DECLARATION)
    system.watertight("apply")
    file.write_text(more)
    assert "restart" not in system.watertight("apply")
    assert outdated(system) == {}


def outdated(system: System) -> dict[str, list[str]]:
    return {
        f"{service['name']}/{process['name']}": process["outdated"]
        for service in system.status()["services"]
        for process in service["processes"]
        if process["outdated"]
    }


@pytest.mark.parametrize("program", [GRACEFUL, CARELESS], ids=["graceful", "careless"])
def test_no_request_is_lost_while_a_program_is_away(system: System, program: str) -> None:
    """It is gone for a second and a half: GET and POST wait, and it need not know how to end."""
    (system.folder / "worker.py").write_text(program.replace("{slow}", "1.5"))
    system.watertight("restart", "worker")
    (system.folder / "asking.py").write_text(ASKING)
    declared = (DECLARATION.replace("[GET /]", "[GET /, POST /]")).replace(
        'run: [python3, web.py, "8000"], listens: {http: 8000}', "run: [python3, -u, asking.py]"
    )
    (system.folder / "watertight.yaml").write_text(declared)
    system.watertight("apply")
    log = system.folder / ".watertight/logs/web.app.log"
    begun = log.stat().st_size
    for _ in range(3):
        system.watertight("restart", "worker")
    asked = len(log.read_text()[begun:].splitlines())
    while len(log.read_text()[begun:].splitlines()) < asked + 20:
        time.sleep(0.05)
    said = [line.split(" ", 2) for line in log.read_text()[begun:].splitlines()]
    assert {method for method, *_ in said} == {"GET", "POST"}
    assert {answer for *_, answer in said} == {"200"}, said


def test_who_cannot_be_restarted_is_told_why(system: System) -> None:
    assert "There is no workload `wrker`" in system.watertight("restart", "wrker", expect=2)
    (system.folder / "worker.py").write_text("raise SystemExit('no such module')")
    said = system.watertight("restart", "worker", expect=3)
    assert "watertight.yaml:5:" in said
    assert "no such module" in said
    # The other one went on, and the right code mends it.
    system.write("worker", "three")
    assert "worker runs again" in system.watertight("restart", "worker")


def test_a_proxy_that_hangs_is_told(system: System) -> None:
    proxy = proxy_of(system, "worker")
    os.kill(proxy, signal.SIGSTOP)
    try:
        said = system.watertight("status", expect=1)
        assert "worker: its proxy runs, but does not answer" in " ".join(said.split())
    finally:
        os.kill(proxy, signal.SIGCONT)
    assert all(service["proxy"]["answers"] for service in system.status()["services"])


@pytest.mark.slow
def test_a_proxy_that_hangs_is_ended_and_starts_again(system: System) -> None:
    proxy = proxy_of(system, "worker")
    os.kill(proxy, signal.SIGSTOP)
    while Path(f"/proc/{proxy}").exists():  # pytest-timeout ends what hangs for ever
        time.sleep(1)
    while not all(s["proxy"]["connected"] for s in system.status()["services"]):
        time.sleep(0.5)
    log = (system.folder / ".watertight/logs/control.log").read_text()
    assert "hanging_proxy_ended" in log


def test_a_control_process_that_hangs_is_told_and_ended(system: System) -> None:
    process = holder(system.folder.resolve() / STATE_DIRECTORY)
    assert process is not None
    os.kill(process, signal.SIGSTOP)
    said = system.watertight("status", expect=3)
    assert f"The control process ({process}) has not answered" in said
    assert f"kill -CONT {process}" in said
    system.watertight("down")
    assert not still_run(system.folder.resolve())
    system.watertight("up", "--detach")


def proxy_of(system: System, name: str) -> int:
    directory = f"{run_directory(system.folder.resolve())}/xds/{name}/".encode()
    (proxy,) = (pid for pid in process_ids() if directory in command_line(pid))
    return proxy


def command_line(pid: int) -> bytes:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def test_a_revocation_waits_for_no_other_change(system: System) -> None:
    """What is slow may be the doing of who is to be revoked."""
    system.write("slow", "one")
    (system.folder / "asking.py").write_text(ASKING)
    declared = DECLARATION.replace("channels:", SLOW).replace(
        'run: [python3, web.py, "8000"], listens: {http: 8000}', "run: [python3, -u, asking.py]"
    )
    (system.folder / "watertight.yaml").write_text(declared)
    system.watertight("apply")
    system.write("slow", "two", slow=20)
    log = system.folder / ".watertight/logs/web.app.log"
    while last_answer(log) != "200":
        time.sleep(0.1)
    restarting = subprocess.Popen(system.argv("restart", "slow"), cwd=system.folder)
    with restarting:
        system.until_changing("restart of slow", restarting)
        revoking = subprocess.Popen(system.argv("revoke", "web"), cwd=system.folder)
        with revoking:
            while last_answer(log) in {None, "200"}:
                assert restarting.poll() is None, "it waited for the other change"
                time.sleep(0.02)
            # Nothing opens again until all of it is done, nor then.
            refused = len(log.read_text())
            assert revoking.wait(120) == 0
        assert restarting.wait(120) == 0
    assert " 200\n" not in log.read_text()[refused:]
    system.watertight("restore", "web")
    while last_answer(log) != "200":
        time.sleep(0.1)


def last_answer(log: Path) -> str | None:
    """To a GET of :data:`ASKING`."""
    whole = log.read_text().rpartition("\n")[0].splitlines()
    said = [line.split(" ", 2)[2] for line in whole if line.startswith("GET ")]
    return said[-1] if said else None


def test_who_is_revoked_is_told_so(system: System) -> None:
    system.watertight("revoke", "worker")
    assert "was revoked already" in system.watertight("revoke", "worker")
    assert "watertight restore worker" in system.watertight("restart", "worker")
    (system.folder / "worker.py").write_text("raise SystemExit('no SVID to be had')")
    said = system.watertight("restart", "worker", expect=3)
    assert "no SVID to be had" in said
    assert "It is revoked" in said
    assert "watertight restore worker" in said
    system.write("worker", "one")
    system.watertight("restore", "worker")
    assert "worker runs again" in system.watertight("restart", "worker")
