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
WORK_SECONDS = 60
WATERTIGHT = Path(sys.executable).with_name("watertight")


def say(text: str) -> None:
    print(f"\n── {text}", flush=True)


def run(*command: str | Path) -> bool:
    """Whether a command ended well; what it prints is seen."""
    return subprocess.run(command, check=False).returncode == 0


def with_all_that_is_here() -> list[Path]:
    """The parts of the full shop whose servers are installed; says which are left out, and why."""
    say("What this machine has")
    missing = dict(full.left_out(DECLARATION))
    for part in full.parts():
        print(f"  {part.stem}: {missing.get(part, 'is part of it')}", flush=True)
    return [part for part in full.parts() if part not in missing]


def each_does_its_work(more: list[Path]) -> bool:
    """Waits until every service that they add has said so; shows what it said."""
    silent = [name for part in more for name in full.services(part)]
    deadline = time.monotonic() + WORK_SECONDS
    while silent and time.monotonic() < deadline:
        for name in list(silent):
            log = STATE / "logs" / f"{name}.app.log"
            said = log.read_text() if log.exists() else ""
            if f"{name}: " in said:
                silent.remove(name)
                print(f"  ok   {said.splitlines()[-1]}", flush=True)
        time.sleep(0.2)
    for name in silent:
        print(f"  BAD  {name} said nothing in {WORK_SECONDS} s", flush=True)
    return not silent


def main() -> int:
    parser = argparse.ArgumentParser(description="the shop, sealed and proven")
    parser.add_argument("--keep", action="store_true", help="leave it running")
    parser.add_argument(
        "--full", action="store_true", help="with every server that this machine has"
    )
    arguments = parser.parse_args()
    more = with_all_that_is_here() if arguments.full else []
    declaration = full.write(DECLARATION, more) if arguments.full else DECLARATION
    say("A signing key for the shop's login service, made now and only for this demo")
    print(login.prepare())
    say(f"watertight up: {full.told(declaration)}, each in a sandbox of its own")
    began = time.monotonic()
    if not run(WATERTIGHT, "up", "--detach", declaration):
        return 1
    print(f"after {time.monotonic() - began:.1f} s", flush=True)
    good = False
    try:
        good = run(WATERTIGHT, "status", declaration)
        say("Traffic through the gateway")
        good &= run(sys.executable, HERE / "traffic.py", "--ca", STATE / "ca.pem")
        if more:
            say("What the other services do")
            good &= each_does_its_work(more)
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
