"""The whole of it at once: brings the shop up, drives traffic, attacks it, shows the proof, stops.

    python examples/shop/demo.py [--keep] [--full]

Exit status 0 only if all traffic went as declared and every probe held. With ``--keep`` the shop
stays up.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

import full
import login

HERE = Path(__file__).resolve().parent
DECLARATION = HERE / "watertight.yaml"
STATE = HERE / ".watertight"
WATERTIGHT = Path(sys.executable).with_name("watertight")


def say(text: str) -> None:
    print(f"\n── {text}", flush=True)


def run(*command: str | Path) -> bool:
    """Whether a command ended well; what it prints is seen."""
    return subprocess.run(command, check=False).returncode == 0


def main() -> int:
    parser = argparse.ArgumentParser(description="the shop, sealed and proven")
    parser.add_argument("--keep", action="store_true", help="leave it running")
    parser.add_argument("--full", action="store_true", help="with RabbitMQ, which must be there")
    arguments = parser.parse_args()
    declaration = full.write(DECLARATION) if arguments.full else DECLARATION
    say("A signing key for the shop's login service, made now and only for this demo")
    print(login.prepare())
    say("watertight up: nine services, a database and a broker, each in a sandbox of its own")
    began = time.monotonic()
    if not run(WATERTIGHT, "up", "--detach", declaration):
        return 1
    print(f"after {time.monotonic() - began:.1f} s", flush=True)
    good = False
    try:
        good = run(WATERTIGHT, "status", declaration)
        say("Traffic through the gateway")
        good &= run(sys.executable, HERE / "traffic.py", "--ca", STATE / "ca.pem")
        say("watertight verify: what is declared must work, all else must fail")
        key = f"main={login.SIGNING_KEY}"
        good &= run(WATERTIGHT, "verify", declaration, "--token-key", key)
        print(f"\nThe proof: {STATE / 'evidence' / 'latest.html'}", flush=True)
    finally:
        if arguments.keep:
            say(f"The shop stays up. Stop it with: {WATERTIGHT} down {declaration}")
        else:
            say("Stopping")
            good &= run(WATERTIGHT, "down", declaration)
    return int(not good)


if __name__ == "__main__":
    sys.exit(main())
