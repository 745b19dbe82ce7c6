"""The shop's reports: `GET /turnover`, from the database, by a driver that is told of no TLS.

It finds the database as any program of psycopg's does, by the usual environment variables, and
speaks to it in the clear: its proxy is the TLS client (``originate`` in watertight.yaml).
"""

import json
import sys
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import psycopg

TURNOVER = "SELECT count(*), coalesce(sum(total), 0)::float FROM sales"


class Reports(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/healthz":
            return self.answer(HTTPStatus.OK, {"ready": True})
        if self.path != "/turnover":
            return self.answer(HTTPStatus.NOT_FOUND, {"error": f"no {self.path}"})
        try:
            with psycopg.connect(connect_timeout=5) as connection:
                sales, total = connection.execute(TURNOVER).fetchone() or (0, 0)
        except psycopg.Error as error:
            print(f"reports: {error}", flush=True)
            return self.answer(HTTPStatus.SERVICE_UNAVAILABLE, {"error": "the books are closed"})
        return self.answer(HTTPStatus.OK, {"sales": sales, "total": total})

    def answer(self, status: HTTPStatus, content: dict[str, object]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it
        """Says nothing."""


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Reports).serve_forever()
