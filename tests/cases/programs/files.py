"""Serves files of any size, and one whose checksum comes after it."""

import http.server
from http import HTTPStatus


class Files(http.server.BaseHTTPRequestHandler):
    """``/files/SIZE`` in one piece; ``/sum`` in chunks, with a trailer."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(HTTPStatus.OK)
        if self.path == "/sum":
            self.send_header("transfer-encoding", "chunked")
            self.send_header("trailer", "x-checksum")
            self.end_headers()
            self.wfile.write(b"3\r\nabc\r\n0\r\nx-checksum: 42\r\n\r\n")
            return
        size = int(self.path.rpartition("/")[2])
        self.send_header("content-length", str(size))
        self.end_headers()
        self.wfile.write(b"q" * size)


if __name__ == "__main__":
    http.server.ThreadingHTTPServer(("127.0.0.1", 9501), Files).serve_forever()
