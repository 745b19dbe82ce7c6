"""Writes down what it is told, and goes on for a while after it was asked to end."""

import http.server
import os
import signal
import threading
from http import HTTPStatus
from pathlib import Path

BOOK = Path(os.environ["WATERTIGHT_DATA"], "told.txt")


class Ledger(http.server.BaseHTTPRequestHandler):
    """Every POST is a line."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        with BOOK.open("a") as book:
            book.write(self.path + "\n")
        self.send_response(HTTPStatus.NO_CONTENT)
        self.end_headers()


if __name__ == "__main__":
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 9503), Ledger)
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    server.serve_forever()
