"""Fetches files as clients do, and writes down what it got."""

import http.client
import json
import os
import socket
import time
from pathlib import Path

SIZES = (100_000, 1_000_000, 5_000_000)


def fetch(size: int, connection_header: str) -> int | str:
    connection = http.client.HTTPConnection("files", 9501, timeout=60)
    try:
        connection.request("GET", f"/files/{size}", headers={"connection": connection_header})
        return len(connection.getresponse().read())
    except (http.client.HTTPException, OSError) as error:
        return repr(error)
    finally:
        connection.close()


def raw(request: bytes) -> str:
    """Everything that comes back."""
    got = b""
    with socket.create_connection(("files", 9501), timeout=30) as connection:
        connection.sendall(request)
        while more := connection.recv(65_536):
            got += more
    return got.decode("latin-1")


def main() -> None:
    answers = {
        f"{size} {word}": fetch(size, word) for size in SIZES for word in ("keep-alive", "close")
    }
    trailers = raw(
        b"GET /sum HTTP/1.1\r\nhost: files\r\nte: trailers\r\nconnection: TE, close\r\n\r\n"
    )
    result = Path(os.environ["WATERTIGHT_DATA"], "result.json")
    result.with_suffix(".new").write_text(json.dumps({"answers": answers, "trailers": trailers}))
    result.with_suffix(".new").rename(result)
    time.sleep(100_000)


if __name__ == "__main__":
    main()
