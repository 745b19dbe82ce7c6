"""An HTTP server whose answers are a status and nothing else, as many a small framework's are."""

import http.server
import socket
import sys


class Bare(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        status = {"/": 401, "/gone": 404, "/kept": 405}.get(self.path, 403)
        self.send_response_only(status)
        self.send_header("content-length", "0")
        self.end_headers()

    do_GET = do_HEAD = do_POST = answer  # noqa: N815 - as http.server calls them


OWN = [socket.create_server(("127.0.0.1", port)) for port in (9001, 8000)]
"""As a debugger has one; 8000 is the port of other apps, each in a network of its own."""
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Bare).serve_forever()
