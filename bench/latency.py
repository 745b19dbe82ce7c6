"""What a channel adds to the latency of a request at a load that all can bear.

    python -m bench.latency --seconds 4 --rounds 5 --output bench/results/latency.json

The servers are those of ``bench.paths``, the load is open (``bench/open_loop.py``). What a row adds
is its quantile less that of *direct plaintext* in the same round; the median of the rounds counts.
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
from pathlib import Path

from bench import open_loop, paths, tools
from bench.open_loop import Latencies

PER_SECOND = 1000
QUANTILES = ("p50_ms", "p99_ms")


def summary(row: str, seen: dict[str, list[Latencies]]) -> dict[str, object]:
    """One row: the medians of its rounds, and what it adds to the direct way."""
    rounds, direct = seen[row], seen[paths.DIRECT]
    found: dict[str, object] = {"name": row, "errors": sum(sample.errors for sample in rounds)}
    for quantile in QUANTILES:
        own = [getattr(sample, quantile) for sample in rounds]
        base = [getattr(sample, quantile) for sample in direct]
        found[quantile] = statistics.median(own)
        found[f"added_{quantile}"] = statistics.median(
            a - b for a, b in zip(own, base, strict=True)
        )
    return found


async def measure(seconds: float, rounds: int, per_second: int) -> dict[str, object]:
    """Runs everything; the result as a JSON document."""
    seen: dict[str, list[Latencies]] = {}
    with tempfile.TemporaryDirectory(prefix="wt-bench-") as name:
        async with paths.servers(Path(name)) as (rows, _):
            for number in range(-1, rounds):  # the first one warms up
                for row, address in rows.items():
                    sample = await asyncio.to_thread(
                        open_loop.run,
                        address,
                        seconds=seconds if number >= 0 else 0.5,
                        per_second=per_second,
                        body_bytes=paths.BODY_BYTES if row == paths.BODY else 0,
                    )
                    print(f"bench: {number + 1}/{rounds} {row}: {sample}", file=sys.stderr)
                    if number >= 0:
                        seen.setdefault(row, []).append(sample)
                    elif sample.errors == sample.sent:
                        raise RuntimeError(f"{row} does not serve: {sample}")
    return {
        "seconds": seconds,
        "rounds": rounds,
        "per_second": per_second,
        "connections": open_loop.CONNECTIONS,
        "rows": [summary(row, seen) for row in seen],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="latency at a fixed rate")
    parser.add_argument("--seconds", type=float, default=4, help="each run (at most 60)")
    parser.add_argument("--rounds", type=int, default=5, help="at most 20")
    parser.add_argument("--per-second", type=int, default=PER_SECOND, help="requests")
    parser.add_argument("--output", type=Path, help="where to write the JSON (default: stdout)")
    arguments = parser.parse_args()
    if tools.find("nginx") is None:
        print("bench: NOT RUN: install nginx", file=sys.stderr)
        return 3
    seconds, rounds = min(arguments.seconds, 60.0), min(arguments.rounds, 20)
    result = asyncio.run(measure(seconds, rounds, arguments.per_second))
    tools.write_result(result, arguments.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
