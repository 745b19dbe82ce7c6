"""A service fills the disk of its own system and keeps it full; what works then?

``python on_full_disk.py DIRECTORY PORT`` mounts a small disk there, for whoever shares its mount
namespace, and prints one JSON object of what it saw. DIRECTORY is short, and open to all.
"""

import http
import json
import os
import signal
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from watertight.control.client import ADMIN_SOCKET, AdminClient
from watertight.runtime.files import STATE_DIRECTORY
from watertight.runtime.runs import holder, run_directory

FILLER = """
import os, threading, time, urllib.request
def call(path):
    try:
        urllib.request.urlopen("http://two:8000" + path, timeout=2).read()
    except OSError:
        return False
    return True
def fill():
    path = os.environ["WATERTIGHT_DATA"] + "/held"
    held = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.unlink(path)
    while True:
        try:
            os.write(held, b"x" * 4096)
        except OSError:
            full.set()
            time.sleep(0.001)
full = threading.Event()
while not call("/call"):
    time.sleep(0.05)
threading.Thread(target=fill).start()
full.wait()
while True:
    call("/call")
    call("/full")
    time.sleep(0.02)
"""
COUNTER = """
import http.server, json
seen = {"/call": 0, "/full": 0}
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        seen[self.path] = seen.get(self.path, 0) + 1
        body = json.dumps(seen).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *words):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", 8000), Handler).serve_forever()
"""
DECLARATION = """\
trust_domain: full.internal
services:
  one: {{run: [python, one.py]}}
  two: {{run: [python, two.py], listens: {{http: 8000}}}}
channels:
  - {{from: one, to: two, allow: ["GET /call", "GET /full"]}}
gateway:
  hostname: localhost
  listen: 127.0.0.1:{port}
  routes:
    - {{path: /count, to: two, require: anyone}}
"""
DEADLINE_SECONDS = 60.0


class Driver:
    """The operator of that system."""

    def __init__(self, directory: Path, port: int) -> None:
        self.directory, self.port = directory, port
        self.seen: dict[str, Any] = {}

    def watertight(self, *arguments: str) -> int:
        """Runs the command; what it says is kept where it is no success."""
        done = subprocess.run(
            [sys.executable, "-m", "watertight.cli", *arguments],
            cwd=self.directory, capture_output=True, text=True, check=False, timeout=200,
        )  # fmt: skip
        if done.returncode:
            self.seen[f"{' '.join(arguments)} said"] = done.stderr
        return done.returncode

    def counted(self) -> dict[str, int]:
        """What `two` has seen."""
        context = ssl.create_default_context(cadata=self.roots)
        url = f"https://localhost:{self.port}/count"
        with urllib.request.urlopen(url, context=context, timeout=5) as answer:
            counted: dict[str, int] = json.load(answer)
        return counted

    def until(self, what: Callable[[], bool]) -> bool:
        """Waits for it."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while time.monotonic() < deadline:
            if what():
                return True
            time.sleep(0.05)
        return False

    def run(self) -> None:
        """From nothing to a system whose disk is full, and back."""
        self.seen["up"] = self.watertight("up", "--detach")
        state = self.directory / STATE_DIRECTORY
        self.roots = (state / "ca.pem").read_text()
        try:
            self.seen["full"] = self.until(lambda: self.counted()["/full"] > 0)
            self.seen["revoke"] = self.watertight("revoke", "one")
            before = self.counted()
            time.sleep(0.5)  # in which it would have called dozens of times
            after = self.counted()
            self.seen["cut"] = {**before, "/count": 0} == {**after, "/count": 0}
            self.take_channel_away()
            self.seen["apply"] = self.watertight("apply")
            self.seen["rotate"] = self.watertight("rotate", "issuer")
            for spare in (state / "authority").glob("*.spare"):
                spare.unlink()
            self.seen["revoke without a spare"] = self.watertight("revoke", "two")
            self.seen["cut without a spare"] = self.refused()
            self.seen["status"] = self.watertight("status")
            self.seen["restart"] = self.watertight("restart", "one")
            journal = state / "authority" / "state.json"
            self.seen["written later"] = self.until(
                lambda: "full.internal/two" in journal.read_text()
            )
            os.kill(int(str(holder(state))), signal.SIGKILL)
            self.seen["up again"] = self.watertight("up", "--detach")
            self.seen["revoked"] = sorted(self.client().revoked() or ())
        finally:
            self.seen["down"] = self.watertight("down")

    def refused(self) -> bool:
        """Whether the gateway knows no way to `two` any more."""
        try:
            self.counted()
        except urllib.error.HTTPError as error:
            return error.code == http.HTTPStatus.NOT_FOUND
        return False

    def take_channel_away(self) -> None:
        """In the file as it lies there: a new one finds no room."""
        file = self.directory / "watertight.yaml"
        with file.open("r+b", buffering=0) as declaration:
            declaration.seek(file.read_text().index("  - {from"))
            declaration.write(b"#")

    def client(self) -> AdminClient:
        """Of its control process."""
        return AdminClient(run_directory(self.directory) / ADMIN_SOCKET)


def main(directory: Path, port: int) -> None:
    """Says what it saw, also if something came between."""
    mount = ["/usr/bin/mount", "-t", "tmpfs", "-o", "size=40m,mode=0755", "none"]
    subprocess.run([*mount, directory], check=True)
    (directory / "one.py").write_text(FILLER)
    (directory / "two.py").write_text(COUNTER)
    (directory / "watertight.yaml").write_text(DECLARATION.format(port=port))
    driver = Driver(directory, port)
    try:
        driver.run()
    finally:
        sys.stdout.write(json.dumps(driver.seen))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
