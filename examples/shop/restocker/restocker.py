"""Fills the warehouse up. It listens on nothing: a service that only calls."""

import os
import socket
import time
from urllib.parse import urlsplit

STOCK = urlsplit(os.environ.get("STOCK_URL", "tcp://stock:8085"))
FULL = {"kettle": 500, "teapot": 500, "cup": 5000}
PAUSE_SECONDS = float(os.environ.get("PAUSE_SECONDS", "10"))


def ask(line: str) -> int:
    with socket.create_connection((STOCK.hostname, STOCK.port), timeout=5) as connection:
        connection.sendall(f"{line}\n".encode())
        answer = connection.makefile().readline()
    if not answer.startswith("OK "):
        raise ConnectionError(f"the stock says {answer.strip()!r}")
    return int(answer.split()[1])


def main() -> None:
    while True:
        try:
            for sku, full in FULL.items():
                missing = full - ask(f"COUNT {sku}")
                if missing > 0:
                    print(f"restocker: {sku}: {ask(f'ADD {sku} {missing}')}", flush=True)
        except OSError as error:
            print(f"restocker: {error}", flush=True)
        time.sleep(PAUSE_SECONDS)


if __name__ == "__main__":
    main()
