"""One bounded run of wrk against one address."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

from bench.tools import find

REPORT = Path(__file__).with_name("report.lua")
CONNECTIONS = 32
PATH = "/hello"


@dataclass(frozen=True)
class Sample:
    """What one run saw. ``errors`` counts everything that was not a 2xx answer in time."""

    requests_per_second: float
    p50_ms: float
    p99_ms: float
    errors: int


def run(address: str, *, seconds: int, keep_alive: bool, body_bytes: int = 0) -> Sample:
    """Drives ``address`` (host:port) from one thread with 32 connections for ``seconds``.

    Without keep-alive every request has a connection of its own; with ``body_bytes`` it is a POST
    of so many. Raises CalledProcessError or
    TimeoutExpired if wrk does not do its work.
    """
    wrk = find("wrk")
    if wrk is None:
        raise FileNotFoundError("wrk")
    close = [] if keep_alive else ["-H", "Connection: close"]
    done = subprocess.run(
        [
            *(wrk, "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--timeout", "5s"),
            *("--script", str(REPORT), *close, f"http://{address}{PATH}"),
            *(("--", str(body_bytes)) if body_bytes else ()),
        ],
        capture_output=True,
        text=True,
        timeout=seconds + 30,
        check=True,
    )
    seen = json.loads(done.stdout.splitlines()[-1])
    return Sample(
        requests_per_second=seen["requests"] / (seen["microseconds"] / 1e6),
        p50_ms=seen["p50_us"] / 1000,
        p99_ms=seen["p99_us"] / 1000,
        errors=seen["errors"],
    )
