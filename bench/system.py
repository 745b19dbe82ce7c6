"""The whole product on the shop: from `up` to sealed, a change, a revocation, the proof, memory.

    python -m bench.system --output bench/results/system.json

Drives the command as a person would, on a copy of ``examples/shop``, so each figure includes
the start of Python and the loading of the declaration.
"""

import argparse
import contextlib
import json
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench import tools

SHOP = Path(__file__).parents[1] / "examples" / "shop"
WATERTIGHT = Path(sys.executable).with_name("watertight")
COMMAND_SECONDS = 180
MADE_BY_RUNNING = (".watertight", "__pycache__", "jwks.json")
TIGHTER = ("allow: [GET /orders/*, POST /orders]", "allow: [GET /orders/*]")


class Installation:
    """A folder with a declaration, and the command in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.declaration = folder / "watertight.yaml"

    def watertight(
        self, *words: str, good: tuple[int, ...] = (0,), seconds: float = COMMAND_SECONDS
    ) -> tuple[str, float]:
        """What a command prints, and how many seconds it took. Raises if its status is not good."""
        began = time.perf_counter()
        done = subprocess.run(
            [WATERTIGHT, *words],
            cwd=self.folder,
            check=False,
            timeout=seconds,
            capture_output=True,
            text=True,
        )
        spent = time.perf_counter() - began
        if done.returncode not in good:
            raise RuntimeError(f"{words} ends with {done.returncode}:\n{done.stderr}")
        return done.stdout, spent

    @contextlib.contextmanager
    def up(self) -> Iterator[float]:
        """The system, sealed; yields the seconds that took. Stops it."""
        _, spent = self.watertight("up", "--detach")
        try:
            yield spent
        finally:
            self.watertight("down")


class Shop(Installation):
    """A copy of the shop in a temporary folder, on a free port."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        shutil.copytree(SHOP, folder, ignore=shutil.ignore_patterns(*MADE_BY_RUNNING))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        text = self.declaration.read_text()
        self.declaration.write_text(re.sub(r"listen: \S+", f"listen: 127.0.0.1:{port}", text))
        self.python("login.py", "prepare")

    def python(self, *argv: str) -> None:
        """Runs one of the shop's own programs."""
        subprocess.run(
            [sys.executable, *argv],
            cwd=self.folder,
            check=True,
            timeout=COMMAND_SECONDS,
            stdout=subprocess.DEVNULL,
        )


def memory(run: Path) -> dict[str, float]:
    """Mean memory a service, in MiB, of its sidecar and of the processes that watch over it.

    From /proc/PID/smaps_rollup, resident (Rss) and its own share of it (Pss): pages that several
    processes have in common count whole in Rss, and divided among them in Pss. What all pods are
    forks of (the nursery) is divided among the services.
    """
    # Each is in an argv.
    marks = {"sidecar": f"{run}/xds/", "pod": f"{run}/pods/", "nursery": f".nursery {run} "}
    found: dict[str, dict[str, float]] = {}
    for process in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            for kind, mark in marks.items():
                _, is_ours, rest = command.partition(mark)
                if not is_ours:
                    continue
                service = re.split(r"[/ ]", rest, maxsplit=1)[0]
                rollup = (process / "smaps_rollup").read_text()
                for unit in ("Rss", "Pss"):
                    kilobytes = re.search(rf"^{unit}: +(\d+) kB", rollup, re.MULTILINE)
                    size = int(kilobytes[1]) / 1024 if kilobytes else 0.0
                    sizes = found.setdefault(f"{kind} {unit}", {})
                    sizes[service] = sizes.get(service, 0.0) + size
    means = {name: statistics.mean(sizes.values()) for name, sizes in sorted(found.items())}
    for unit in ("Rss", "Pss"):
        pods = len(found[f"pod {unit}"])
        means[f"pod {unit}"] += means.pop(f"nursery {unit}") / pods
    return means


def measure(folder: Path, rounds: int, only: str) -> dict[str, Any]:
    """All figures; those of ``up`` and ``apply`` are medians of the rounds."""
    shop = Shop(folder)
    ups: list[float] = []
    applies: list[float] = []
    result: dict[str, Any] = {"rounds": rounds}
    whole = shop.declaration.read_text()
    if TIGHTER[0] not in whole:
        raise RuntimeError(f"{SHOP} no longer has the grant that this bench changes.")
    for number in range(rounds):
        with shop.up() as seconds:
            ups.append(seconds)
            for text in (whole.replace(*TIGHTER), whole):
                shop.declaration.write_text(text)
                applies.append(shop.watertight("apply")[1])
            if number == 0:
                run = (folder / ".watertight" / "run").resolve()
                result["mebibytes"] = memory(run)
                # Its verdict is not this bench's matter; that all of it ran is.
                output = shop.watertight("verify", "--only", only, "-o", "json", good=(0, 1))[0]
                proof = json.loads(output)
                probes, spent = proof["summary"]["probes"], proof["seconds"]
                result["proof"] = {
                    **proof["summary"],
                    "seconds": spent,
                    "probes_per_second": probes / spent,
                }
                cut = json.loads(shop.watertight("revoke", "mailer", "--output", "json")[0])
                result["revoke_seconds"] = cut["seconds"]
                shop.watertight("restore", "mailer")
    return {
        **result,
        "up_to_sealed_seconds": statistics.median(ups),
        "apply_command_seconds": statistics.median(applies),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="the whole product on the shop")
    parser.add_argument("--quick", action="store_true", help="one round, few probes")
    parser.add_argument("--output", type=Path, help="where to write the JSON (default: stdout)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="wt-bench-") as name:
        Path(name).chmod(0o755)  # services run under uids of their own
        rounds, only = (1, "tls.*") if arguments.quick else (3, "*")
        result = measure(Path(name) / "shop", rounds, only)
    tools.write_result(result, arguments.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
