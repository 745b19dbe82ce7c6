"""A client of the gateway that writes its requests byte by byte."""

import socket
import ssl
from pathlib import Path

HOST = "case.example"


class Edge:
    """Reaches one gateway, and believes its certificate as any client does."""

    def __init__(self, port: int, roots: Path) -> None:
        self._port = port
        self._roots = roots

    def connect(self) -> ssl.SSLSocket:
        context = ssl.create_default_context(cafile=self._roots)
        context.set_alpn_protocols(["http/1.1"])
        plain = socket.create_connection(("127.0.0.1", self._port), timeout=60)
        return context.wrap_socket(plain, server_hostname=HOST)

    def get(self, path: str, *headers: str, host: str = HOST) -> str:
        """Head and body of the answer."""
        lines = [f"GET {path} HTTP/1.1", f"host: {host}", "connection: close", *headers, "", ""]
        got = b""
        with self.connect() as connection:
            connection.sendall("\r\n".join(lines).encode())
            while more := connection.recv(65_536):
                got += more
        return got.decode("latin-1")

    def status(self, path: str, *headers: str, host: str = HOST) -> int:
        return int(self.get(path, *headers, host=host)[9:12])
