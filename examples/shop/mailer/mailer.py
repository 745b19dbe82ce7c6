"""The shop's mailer: `POST /messages` {to, text}. Nothing but the standard library."""

import json
import sys
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Mailer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", "0")))
        if self.path != "/messages":
            return self.answer(HTTPStatus.NOT_FOUND, {"error": f"no {self.path}"})
        try:
            message = json.loads(body)
            line = f"to {message['to']}: {message['text']}"
        except (ValueError, KeyError, TypeError):
            return self.answer(HTTPStatus.BAD_REQUEST, {"error": "a message is {to, text}"})
        print(f"mailer: {line}", flush=True)
        return self.answer(HTTPStatus.ACCEPTED, {"accepted": True})

    def do_GET(self) -> None:
        self.answer(HTTPStatus.OK, {"ready": True})

    def answer(self, status: HTTPStatus, content: dict[str, object]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it
        """Says nothing: each accepted message prints its own line."""


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Mailer).serve_forever()
