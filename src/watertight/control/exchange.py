"""One request to the control plane at its Unix socket, and the answer.

By the standard library, and that only once somebody answers: it is what each short command pays.
"""

import socket
from pathlib import Path


class Unreachable(Exception):
    """Nobody took the connection."""


def exchange(
    path_of_socket: Path, method: str, path: str, body: bytes | None, timeout_seconds: float
) -> tuple[int, bytes]:
    """The status and the content. Raises :class:`Unreachable`, or OSError if it breaks off."""
    with socket.socket(socket.AF_UNIX) as connected:
        connected.settimeout(timeout_seconds)
        try:
            connected.connect(str(path_of_socket))
        except OSError as error:
            raise Unreachable from error
        from http.client import HTTPConnection, HTTPException  # noqa: PLC0415 - see above

        connection = HTTPConnection("watertight")
        connection.sock = connected
        try:
            connection.request(method, path, body, {"content-type": "application/json"})
            answer = connection.getresponse()
            return answer.status, answer.read()
        except HTTPException as error:
            raise ConnectionError(f"no answer in HTTP: {type(error).__name__}") from error
        finally:
            connection.close()
