"""Real servers that read badly: none of their handlers looks at the body of a request.

Each answers 200 with its name to whatever it takes for a request, and writes down its request line.
"""

import asyncio
import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.ports import free_port

START_SECONDS = 300.0
"""Of what is compiled first, on a busy machine with an empty cache."""
REQUIRE_ALL = "WATERTIGHT_REQUIRE_ALL"

HTTP_SERVER = """
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def answer(self):
        self.log_line()
        self.send_response(200)
        self.send_header("content-length", "8")
        self.end_headers()
        self.wfile.write(b"careless")
    def log_line(self):
        open(sys.argv[2], "a").write(self.requestline + chr(10))
    def log_message(self, *_): pass
    do_GET = do_POST = do_PUT = do_DELETE = do_WATERTIGHT = answer
ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
NOTES = """
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
notes = []
class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        self.answer(bytes(48) + b"".join(notes[-40:]))
    def do_POST(self):
        if "chunked" in self.headers.get("transfer-encoding", ""):
            note = b""
            while size := int(self.rfile.readline(), 16):
                note += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            note = self.rfile.read(int(self.headers.get("content-length") or 0))
        notes.append(note)
        self.answer(b"kept")
    def do_WATERTIGHT(self):
        self.answer(b"")
    def answer(self, body):
        open(sys.argv[2], "a").write(self.requestline + chr(10))
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
"""Reads what it is sent with care, and tells everybody; but for the bodies of a GET."""
EVENTS = """
import sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        open(sys.argv[2], "a").write(self.requestline + chr(10))
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        for _ in range(600):
            self.wfile.write(b"data: tick" + 2 * bytes([10]))
            self.wfile.flush()
            time.sleep(0.5)
    def log_message(self, *_): pass
    do_POST = do_WATERTIGHT = do_GET
ThreadingHTTPServer.daemon_threads = True
ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
"""Its answers go on for minutes."""
WSGI = """
def app(environ, start_response):
    with open({log!r}, "a") as log:
        log.write(environ["REQUEST_METHOD"] + " " + environ["PATH_INFO"] + chr(10))
    start_response("200 OK", [("content-length", "8")])
    return [b"careless"]
"""
WERKZEUG = """
import sys
from werkzeug.serving import WSGIRequestHandler, run_simple
WSGIRequestHandler.protocol_version = "HTTP/1.1"
run_simple("127.0.0.1", int(sys.argv[1]), app, threaded=True)
"""
ASGI = """
async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    with open({log!r}, "a") as log:
        log.write(scope["method"] + " " + scope["path"] + chr(10))
    await send({{"type": "http.response.start", "status": 200,
                "headers": [(b"content-length", b"8")]}})
    await send({{"type": "http.response.body", "body": b"careless"}})
"""
NODE = """
const http = require('http'), fs = require('fs');
http.createServer((request, response) => {
  fs.appendFileSync(process.argv[3], request.method + ' ' + request.url + '\\n');
  response.writeHead(200, {'content-length': 8});
  response.end('careless');
}).listen(Number(process.argv[2]), '127.0.0.1');
"""
GO = """
package main
import ("net/http"; "os")
func main() {
  http.ListenAndServe("127.0.0.1:" + os.Args[1], http.HandlerFunc(
    func(w http.ResponseWriter, r *http.Request) {
      log, _ := os.OpenFile(os.Args[2], os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0600)
      log.WriteString(r.Method + " " + r.URL.Path + "\\n"); log.Close()
      w.Write([]byte("careless"))
    }))
}
"""
JAVA = """
import com.sun.net.httpserver.HttpServer;
import java.net.InetSocketAddress;
import java.nio.file.*;
class Careless {
  public static void main(String[] a) throws Exception {
    var s = HttpServer.create(new InetSocketAddress("127.0.0.1", Integer.parseInt(a[0])), 0);
    s.createContext("/", e -> {
      Files.writeString(Path.of(a[1]), e.getRequestMethod() + " " + e.getRequestURI() + "\\n",
        StandardOpenOption.CREATE, StandardOpenOption.APPEND);
      e.sendResponseHeaders(200, 8);
      e.getResponseBody().write("careless".getBytes()); e.close();
    });
    s.start();
  }
}
"""
SERVERS = ("http.server", "werkzeug", "gunicorn", "uvicorn", "node", "go", "java")
COMPILED = frozenset({"go", "java"})
"""What takes seconds to start."""


@dataclass(frozen=True)
class Careless:
    """A running server."""

    port: int
    log: Path

    def executed(self) -> list[str]:
        """What it took for requests, in order."""
        return self.log.read_text().splitlines() if self.log.exists() else []


@asynccontextmanager
async def careless(server: str) -> AsyncIterator[Careless]:
    """Runs one of :data:`SERVERS`; skips the test where its program is missing."""
    port = free_port("127.0.0.1")
    with tempfile.TemporaryDirectory(prefix="wt-careless-") as name:
        directory = Path(name)
        running = Careless(port, directory / "log")
        argv = _argv(server, directory, running)
        if shutil.which(argv[0]) is None:
            if os.environ.get(REQUIRE_ALL):
                pytest.fail(f"{argv[0]} is missing, and {REQUIRE_ALL} is set")
            pytest.skip(f"{argv[0]} is not on this machine")
        with (directory / "output").open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                *argv,
                cwd=directory,
                env={**os.environ, "HOME": name, "GOCACHE": _go_cache(), "GOFLAGS": "-mod=mod"},
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            await _listens(port, process, directory / "output")
            yield running
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, 9)
            await process.wait()


def _go_cache() -> str:
    """Go's own, where its library is compiled already after the first time."""
    return os.environ.get("GOCACHE") or str(Path.home() / ".cache" / "go-build")


def _argv(server: str, directory: Path, running: Careless) -> list[str]:
    port, log = str(running.port), str(running.log)
    wsgi, asgi = WSGI.format(log=log), ASGI.format(log=log)
    python = [sys.executable, "-m"]
    sources = {
        "http.server": ("careless.py", HTTP_SERVER),
        "notes": ("careless.py", NOTES),
        "events": ("careless.py", EVENTS),
        "werkzeug": ("careless.py", wsgi + WERKZEUG),
        "gunicorn": ("careless.py", wsgi),
        "uvicorn": ("careless.py", asgi),
        "node": ("careless.js", NODE),
        "go": ("careless.go", GO),
        "java": ("Careless.java", JAVA),
    }
    file, source = sources[server]
    (directory / file).write_text(source)
    return {
        "http.server": [sys.executable, file, port, log],
        "notes": [sys.executable, file, port, log],
        "events": [sys.executable, file, port, log],
        "werkzeug": [sys.executable, file, port],
        "gunicorn": [
            *(*python, "gunicorn", "--bind", f"127.0.0.1:{port}", "--worker-class", "gthread"),
            *("--threads", "8", "--keep-alive", "60", "careless:app"),
        ],
        "uvicorn": [*python, "uvicorn", "--host", "127.0.0.1", "--port", port, "careless:app"],
        "node": ["node", file, port, log],
        "go": ["go", "run", file, port, log],
        "java": ["java", file, port, log],
    }[server]


async def _listens(port: int, process: asyncio.subprocess.Process, output: Path) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + START_SECONDS
    while True:
        with contextlib.suppress(OSError):
            _reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            return
        if process.returncode is not None or loop.time() > deadline:
            raise TimeoutError(await asyncio.to_thread(output.read_text))
        await asyncio.sleep(0.02)
