"""An HTTP server whose answers do not end: a stream of events, and a page that does."""

import http.server
import sys
import time


class Events(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        if self.path != "/ticks":
            self.send_header("content-length", "3000000")
            self.end_headers()
            self.wfile.write(bytes(3_000_000))
            return
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        self.close_connection = True
        while True:
            self.wfile.write(b"data: tick\n\n")
            time.sleep(0.2)


http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Events).serve_forever()
