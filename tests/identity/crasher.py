"""Kills a process at each step of an operation in turn, and looks at what is left.

Run as a program of its own (``python crasher.py OPERATION DIRECTORY``), since it forks. Prints
one JSON list: for each step, whether the state after the death was the new one.
"""

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.identity.world import ORDERS, TRUST_DOMAIN, FakeClock, kek, request
from watertight.identity.authority import Authority

KILLED = 137
STEPS = ("open", "write", "pwrite", "fsync", "replace", "unlink")
"""The calls of ``os`` that change the disk or make a change last."""


def open_or_create(directory: Path) -> Authority:
    """The authority under test."""
    path = directory / "authority"
    return Authority.open_or_create(path, TRUST_DOMAIN, kek=kek(directory), now=FakeClock())


def rotate(authority: Authority) -> None:
    """A whole rotation of the issuer."""
    authority.prepare_issuer()
    authority.activate_issuer()


OPERATIONS: dict[str, Callable[[Authority], Any]] = {
    "create": lambda authority: None,
    "prepare_root": lambda authority: authority.prepare_root(),
    "activate_root": lambda authority: authority.activate_root(99),
    "rotate": rotate,
    "revoke": lambda authority: authority.revoke(ORDERS),
}


def die_at(step: int) -> None:
    """From now on, the process ends at its ``step``-th changing call, before making it."""
    left = [step]

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                os._exit(KILLED)
            return real(*arguments, **options)

        return call

    for name in STEPS:
        setattr(os, name, counted(getattr(os, name)))


def attempt(operation: str, directory: Path, step: int) -> bool:
    """Runs the operation in a child that dies at ``step``; returns whether it lived to the end."""
    child = os.fork()
    if child == 0:
        authority = None if operation == "create" else open_or_create(directory)
        die_at(step)
        authority = authority or open_or_create(directory)
        OPERATIONS[operation](authority)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if code not in {0, KILLED}:
        raise SystemExit(f"step {step} ended with {code}")
    return code == 0


def summary(authority: Authority) -> Any:
    """What an operation changes, without the ids that differ from run to run."""
    status = authority.status()
    return [[(s.kind, s.status) for s in status.slots], status.sequence, len(status.revoked)]


def outcome(directory: Path, before: Any) -> dict[str, bool]:
    """Opens what a death left. It must work, issue, and hold the keys of its slots, no others."""
    with open_or_create(directory) as authority:
        leaf, issuer = authority.issue(request("mailer"))
        leaf.verify_directly_issued_by(issuer)
        slots = authority.status().slots
        names = {f.name for f in (directory / "authority" / "keys").iterdir()}
        if names != {f"{s.id}.key" for s in slots if s.status != "old"}:
            raise SystemExit(f"stray or missing keys: {names}")
        return {"after": summary(authority) != before}


def main(operation: str, directory: Path) -> None:
    """Steps through one operation until it is no longer interrupted."""
    base = directory / "base"
    base.mkdir()
    before: Any = None
    if operation != "create":
        with open_or_create(base) as authority:
            if operation == "activate_root":
                authority.prepare_root()
            before = summary(authority)
    outcomes = []
    for step in range(200):
        copy = directory / f"step-{step}"
        shutil.copytree(base, copy)
        finished = attempt(operation, copy, step)
        existed = (copy / "authority" / "state.json").exists()
        found = outcome(copy, before)
        outcomes.append({"after": existed} if operation == "create" else found)
        shutil.rmtree(copy)
        if finished:
            break
    else:
        raise SystemExit("the operation never ended")
    sys.stdout.write(json.dumps(outcomes))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
