"""Has something to say while it ends: asked to, it tells the ledger three times before it goes."""

import http.client
import signal
import time
from http import HTTPStatus


def tell(what: str) -> bool:
    connection = http.client.HTTPConnection("ledger", 9503, timeout=5)
    try:
        connection.request("POST", what)
        return connection.getresponse().status == HTTPStatus.NO_CONTENT
    except OSError:
        return False
    finally:
        connection.close()


def end(*_: object) -> None:
    for number in range(3):
        tell(f"/farewell/{number}")
        time.sleep(0.3)
    raise SystemExit


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, end)
    while not tell("/ready"):
        time.sleep(0.1)
    time.sleep(100_000)
