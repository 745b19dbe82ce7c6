"""Every bench, one after another; writes ``bench/results/*.json`` and ``docs/performance.md``.

    python -m bench.run            # what `make bench` does; about half an hour
    python -m bench.run --quick    # a smoke run: its figures say nothing and are not written down

A bench that could not run keeps no old figures: its table says that it did not run.
"""

import argparse
import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import tables, tools

REPOSITORY = Path(__file__).parents[1]
RESULTS = REPOSITORY / "bench" / "results"
GRACE_SECONDS = 60.0
PAGE = REPOSITORY / "docs" / "performance.md"


@dataclass(frozen=True)
class Bench:
    """One module of this folder that takes ``--output FILE``, and what bounds it."""

    name: str
    arguments: tuple[str, ...]
    quick: tuple[str, ...]
    seconds: int


BENCHES = (
    Bench("paths", ("--seconds", "4", "--rounds", "3"), ("--seconds", "1", "--rounds", "1"), 900),
    Bench("latency", ("--rounds", "3"), ("--seconds", "0.5", "--rounds", "1"), 600),
    Bench(
        "identity",
        ("--seconds", "4", "--rounds", "3", "--build"),
        ("--seconds", "0.2", "--rounds", "1"),
        1800,
    ),
    Bench("xds", (), ("--quick",), 600),
    Bench("system", (), ("--quick",), 600),
    Bench("scale", (), ("--services", "8"), 3600),
    Bench("resources", (), ("--quick",), 900),
)


def run(bench: Bench, *, quick: bool) -> dict[str, object] | None:
    """The JSON that one bench wrote; None if it did not run, which is said."""
    file = RESULTS / f"{bench.name}.json"
    file.unlink(missing_ok=True)
    print(f"bench: {bench.name}", file=sys.stderr)
    arguments = bench.quick if quick else bench.arguments
    command = [sys.executable, "-m", f"bench.{bench.name}", *arguments, "--output", str(file)]
    try:
        status = to_the_end(command, bench.seconds)
    except subprocess.TimeoutExpired:
        print(f"bench: {bench.name}: NOT RUN: not done in {bench.seconds} s", file=sys.stderr)
        return None
    if status or not file.exists():
        print(f"bench: {bench.name}: NOT RUN: status {status}", file=sys.stderr)
        return None
    found: dict[str, object] = json.loads(file.read_text())
    return found


def to_the_end(command: Sequence[str], seconds: float) -> int:
    """A command's status. If it takes too long it may still end the servers that it started.

    Raises subprocess.TimeoutExpired.
    """
    # Its standard output is only the servers' log.
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.DEVNULL) as process:
        try:
            return process.wait(seconds)
        except (subprocess.TimeoutExpired, KeyboardInterrupt) as cause:
            if not isinstance(cause, KeyboardInterrupt):  # which the terminal tells it, too
                process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(GRACE_SECONDS)
            process.kill()
            raise


def main() -> int:
    parser = argparse.ArgumentParser(description="all benches, and the page of their figures")
    parser.add_argument("--quick", action="store_true", help="only see that all of it runs")
    parser.add_argument("--only", action="append", choices=[b.name for b in BENCHES])
    arguments = parser.parse_args()
    tools.install_missing()
    RESULTS.mkdir(exist_ok=True)
    chosen = [b for b in BENCHES if not arguments.only or b.name in arguments.only]
    results = {bench.name: run(bench, quick=arguments.quick) for bench in chosen}
    if not arguments.quick:
        page = PAGE.read_text()
        for name, result in results.items():
            page = tables.replace(page, name, tables.render(name, result))
        PAGE.write_text(tables.replace(page, "machine", tables.machine()))
        print(f"bench: wrote {PAGE.relative_to(REPOSITORY)}", file=sys.stderr)
    return 0 if all(result is not None for result in results.values()) else 3


if __name__ == "__main__":
    sys.exit(main())
