"""Revokes, restores and rotates on a disk that somebody keeps full; run where it is mounted.

``python on_full_disk.py DIRECTORY`` prints one JSON object of what it saw.
"""

import json
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.identity.world import ORDERS, TRUST_DOMAIN, FakeClock, kek, request
from watertight.identity.authority import Authority
from watertight.identity.spiffe import SPIFFEID

TIMES = 50
TURNS = 5
FILLER = Path(__file__).with_name("filler.py")


def room(directory: Path) -> bool:
    """Whether one block can be had."""
    try:
        (directory / "one").write_bytes(b"x" * 4096)
    except OSError:
        return False
    return True


def main(directory: Path) -> None:
    """With the disk full from the first revocation on."""
    others = [SPIFFEID.workload(TRUST_DOMAIN, f"other-{number}") for number in range(TIMES)]
    with Authority.create(
        directory / "authority", TRUST_DOMAIN, kek=kek(directory), now=FakeClock()
    ) as authority:
        filler = subprocess.Popen(
            [sys.executable, FILLER, directory], stdout=subprocess.PIPE, text=True
        )
        try:
            assert filler.stdout is not None
            assert filler.stdout.readline() == "full\n"
            seen: dict[str, object] = {"room": room(directory)}
            for other in others:
                authority.revoke(other)
            authority.restore(others[0])
            authority.revoke(ORDERS)
            for _ in range(TURNS):
                authority.prepare_issuer()
                authority.activate_issuer()
                authority.prepare_jwt()
                authority.activate_jwt()
                authority.prepare_root()
                authority.activate_root(authority.bundle().sequence)
            seen["room_after"] = room(directory)
        finally:
            filler.kill()
            filler.wait()
    with Authority.open(directory / "authority", kek=kek(directory), now=FakeClock()) as again:
        seen["issues"] = len(again.issue(request("mailer")))
        seen["rotated"] = len(again.bundle().authorities)
        seen["revoked"] = again.revoked == {*others[1:], ORDERS}
    sys.stdout.write(json.dumps(seen))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
