"""A web program that answers from what it was asked, as most frameworks do."""

import base64
import hashlib
import http.server
import json
from http import HTTPStatus

GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
"""RFC 6455 section 1.3."""


class Web(http.server.BaseHTTPRequestHandler):
    """Redirects, tells what it was asked, counts uploads, echoes on a WebSocket."""

    protocol_version = "HTTP/1.1"

    def say(self, status: int, text: str = "", **headers: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        host = self.headers["host"]
        if self.path == "/old":
            self.say(HTTPStatus.FOUND, location=f"https://{host}/new")
        elif self.path == "/live":
            origin = self.headers.get("origin", "").removeprefix("https://")
            self.say(HTTPStatus.OK if origin == host else HTTPStatus.FORBIDDEN)
        elif self.path == "/ws":
            self.echo()
        else:
            self.say(HTTPStatus.OK, json.dumps(self.headers.items()))

    def do_POST(self) -> None:
        left = read = int(self.headers["content-length"])
        while left > 0:
            left -= len(self.rfile.read(min(65_536, left)))
        self.say(HTTPStatus.OK, str(read))

    def echo(self) -> None:
        key = self.headers["sec-websocket-key"] + GUID
        accept = base64.b64encode(hashlib.sha1(key.encode(), usedforsecurity=False).digest())
        self.send_response(HTTPStatus.SWITCHING_PROTOCOLS)
        self.send_header("upgrade", "websocket")
        self.send_header("connection", "Upgrade")
        self.send_header("sec-websocket-accept", accept.decode())
        self.end_headers()
        while more := self.connection.recv(4096):
            self.connection.sendall(more)
        self.close_connection = True


if __name__ == "__main__":
    http.server.ThreadingHTTPServer(("127.0.0.1", 9500), Web).serve_forever()
