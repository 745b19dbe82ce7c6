"""A real server that reads badly, as it is: Python's ``http.server`` leaves bodies unread."""

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Seen:
    """What reached the app, as it understood it."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []

    def of(self, path: str) -> list[dict[str, Any]]:
        """The requests for one path."""
        return [request for request in self.requests if request["path"] == path]


@contextmanager
def unreading() -> Iterator[tuple[int, Seen]]:
    """``http.server`` with HTTP/1.1, as its documentation shows it; yields its port."""
    seen = Seen()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            seen.requests.append(
                {
                    "method": self.command,
                    "path": self.path,
                    "headers": {k.lower(): v for k, v in self.headers.items()},
                }
            )
            text = json.dumps({"path": self.path}).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)  # to HEAD too, as a careless author has it

        do_GET = do_HEAD = do_DELETE = do_OPTIONS = do_POST = do_PUT = _answer  # noqa: N815

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            """Says nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1], seen
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
