"""The small programs that run in the tests' pods, as ``run`` would have them."""

from watertight.model.system import Channel, Listen, Protocol, Service, System

SERVER = """
import http.server, os, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = f"{sys.argv[2]} serves {self.path}".encode()
        self.send_response(200); self.send_header("Content-Length", str(len(body)))
        self.end_headers(); self.wfile.write(body)
    def log_message(self, *_): print("asked for", self.path)
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
"""Arguments: port, name."""

IDLE = "import signal; signal.pause()"

STUBBORN = """
import signal, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("deaf", flush=True)
while True: signal.pause()
"""

GET = """
import sys, urllib.request
try: print(urllib.request.urlopen(sys.argv[1], timeout=3).read().decode())
except OSError as error: print("failed:", error)
"""

CONNECT = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=3); print("connected")
except OSError as error: print("failed:", error)
"""


def server(name: str, port: int) -> Service:
    """An HTTP server."""
    run = ("python", "-c", SERVER, str(port), name)
    return Service(name, run, listens=Listen(Protocol.HTTP, port))


def idler(name: str, script: str = IDLE) -> Service:
    """A service that only calls."""
    return Service(name, ("python", "-c", script))


def system_of(*services: Service, channels: tuple[tuple[str, str], ...] = ()) -> System:
    """A system without a gateway."""
    return System(
        "test.internal",
        {service.name: service for service in services},
        channels=tuple(Channel(source, target) for source, target in channels),
    )
