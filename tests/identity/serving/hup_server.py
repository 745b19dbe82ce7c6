"""A TLS server as so many are: it reads its files at its start, and again on SIGHUP, only then.

Arguments: the directory of its credential files, the Unix socket to listen on. Demands client
certificates, and says ``hello`` to who has a good one. Run as a process by ``test_delivery``.
"""

import signal
import socket
import ssl
import sys
from pathlib import Path


def read(directory: Path) -> ssl.SSLContext:
    """A context with what the files hold now."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(directory / "combined.pem")
    context.load_verify_locations(directory / "bundle.pem")
    return context


def main() -> None:
    """Serves one connection at a time, until it is ended."""
    directory, path = Path(sys.argv[1]), sys.argv[2]
    contexts = [read(directory)]
    signal.signal(signal.SIGHUP, lambda *_: contexts.append(read(directory)))
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        while True:
            connection, _ = server.accept()
            connection.settimeout(10)
            try:
                with contexts[-1].wrap_socket(connection, server_side=True) as sealed:
                    sealed.sendall(sealed.recv(64))
            except OSError:
                connection.close()


if __name__ == "__main__":
    main()
