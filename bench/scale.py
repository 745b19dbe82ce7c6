"""The proof by the number of services: how many probes, how long, how much processor time.

    python -m bench.scale --services 10 --services 50 --output bench/results/scale.json

Real services: each is a small HTTP server in a sandbox with a sidecar of its own, and calls three
others. The whole proof runs; for the largest system a sample of it, whose report names what was
left out. Its verdict is not this bench's matter; what did not hold is told.
"""

import argparse
import json
import resource
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench import tools
from bench.system import Installation

SIZES = (10, 50, 200)
MOST = 200
SAMPLED_FROM = 200
SAMPLE = 20
CALLEES = (1, 3, 7)
"""Whom a service calls: those so many places after it."""
FIRST_PORT = 8000
PROOF_SECONDS = 1800
APP = """
import http.server
import sys

class Items(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.send_response(200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *words):
        pass

http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Items).serve_forever()
"""


def declaration(services: int) -> str:
    """A ring of services of which each calls three; a declaration in YAML (here: JSON)."""
    ports = {f"s{n:03}": FIRST_PORT + n for n in range(services)}
    names = list(ports)
    whole = {
        "trust_domain": "scale.internal",
        "services": {
            name: {"run": ["python3", "app.py", str(port)], "listens": {"http": port}}
            for name, port in ports.items()
        },
        "channels": [
            {"from": name, "to": names[(n + k) % services], "allow": ["GET /items/*"]}
            for n, name in enumerate(names)
            for k in CALLEES
        ],
    }
    return json.dumps(whole, indent=1) + "\n"


def processor_seconds() -> float:
    """Of all processes that this one started and has seen end, and of those that they did."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def measure(services: int) -> dict[str, Any]:
    """One system: brought up, proven, taken down."""
    sample = SAMPLE if services >= SAMPLED_FROM else None
    part = ("--sample", str(sample)) if sample else ()
    with tempfile.TemporaryDirectory(prefix="wt-bench-", dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)  # services run under uids of their own
        here = Installation(folder)
        here.declaration.write_text(declaration(services))
        (folder / "app.py").write_text(APP)
        with here.up() as up_seconds:
            before = processor_seconds()
            output, wall = here.watertight(
                "verify", "-o", "json", *part, good=(0, 1), seconds=PROOF_SECONDS
            )
            spent = processor_seconds() - before
    proof = json.loads(output)
    for probe in proof["probes"]:
        if probe["verdict"] != "held":
            said = f"{probe['id']}: {probe['channel']}: {probe['observed'][:300]}"
            print(f"bench: {probe['verdict']}: {said}", file=sys.stderr)
    return {
        "services": services,
        "channels": services * len(CALLEES),
        "sample": sample,
        "up_to_sealed_seconds": up_seconds,
        **proof["summary"],
        "attack_seconds": proof["seconds"],
        "command_seconds": wall,
        "processor_seconds": spent,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="the proof by the number of services")
    parser.add_argument("--services", type=int, action="append", help=f"from 8 to {MOST}")
    parser.add_argument("--output", type=Path, help="where to write the JSON (default: stdout)")
    arguments = parser.parse_args()
    sizes = [min(max(size, 8), MOST) for size in arguments.services or SIZES]
    rows = []
    for size in sizes:
        rows.append(measure(size))
        print(f"bench: {rows[-1]}", file=sys.stderr)
    tools.write_result({"rows": rows}, arguments.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
