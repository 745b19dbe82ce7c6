"""How many X.509-SVIDs the authority issues a second, beside step-ca and SPIRE in the same run.

    python -m bench.identity --seconds 3 --rounds 3 --output bench/results/identity.json

``issue`` is what the authority does: validate the request, sign, check what was signed, record it.
``whole`` adds what the keeper of an SVID does first: make a key pair and a request. Both are one
thread's. Compared is what one processor does in a second: our process's time for ``issue``, and
the server's for the others, whose figures hold their transport and their database too.
"""

import argparse
import contextlib
import functools
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from bench import issuers, tools
from watertight.identity.authority import Authority
from watertight.identity.kek import FileKEK
from watertight.identity.requests import SVIDRequest
from watertight.identity.spiffe import SPIFFEID

TRUST_DOMAIN = issuers.TRUST_DOMAIN
OURS = "authority"


def request() -> SVIDRequest:
    """A request for the SVID of one service, with a new key."""
    csr = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    )
    return SVIDRequest(
        csr.public_bytes(serialization.Encoding.DER),
        SPIFFEID.parse(f"spiffe://{TRUST_DOMAIN}/orders"),
        ("orders",),
    )


def per_second(work: Callable[[], object], seconds: float) -> float:
    """How often ``work`` was done a second, over at least ``seconds``."""
    count, start = 0, time.perf_counter()
    while (spent := time.perf_counter() - start) < seconds:
        work()
        count += 1
    return count / spent


def per_processor_second(work: Callable[[], object], seconds: float) -> float:
    """How often ``work`` is done for a second of this process's processor time."""
    count, end, begun = 0, time.monotonic() + seconds, time.process_time()
    while time.monotonic() < end:
        work()
        count += 1
    return count / (time.process_time() - begun)


def measure(seconds: float, rounds: int, *, build: bool) -> dict[str, object]:
    """All figures, with a new authority that writes its audit log to disk; interleaved rounds."""
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="wt-bench-")))
        kek = FileKEK(directory / "kek")
        authority = stack.enter_context(
            Authority.create(directory / "authority", TRUST_DOMAIN, kek=kek)
        )
        ready = request()
        runs = {OURS: lambda: per_processor_second(lambda: authority.issue(ready), seconds)}
        versions = dict[str, str]()
        for name, (program, served) in issuers.PEERS.items():
            path = issuers.program(program, build=build)
            if path is None:
                print(f"bench: {name}: NOT MEASURED, no {program} and no Go", file=sys.stderr)
                continue
            (place := directory / program).mkdir()
            peer = stack.enter_context(served(path, place, seconds * (rounds + 1)))
            runs[name] = functools.partial(issuers.per_processor_second, peer, seconds)
            versions[name] = issuers.version(path)
        seen: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(rounds):
            for name, run in runs.items():
                seen[name].append(run())
        return {
            "seconds": seconds,
            "rounds": rounds,
            "issue_per_second": per_second(lambda: authority.issue(ready), seconds),
            "whole_per_second": per_second(lambda: authority.issue(request()), seconds),
            "versions": versions,
            "not_measured": [name for name in issuers.PEERS if name not in versions],
            "per_processor_second": {n: statistics.median(found) for n, found in seen.items()},
            "ratios": {
                name: statistics.median(
                    own / other for own, other in zip(seen[OURS], found, strict=True)
                )
                for name, found in seen.items()
                if name != OURS
            },
        }


def main() -> int:
    parser = argparse.ArgumentParser(description="SVIDs issued per second")
    parser.add_argument("--seconds", type=float, default=3.0, help="each figure (at most 30)")
    parser.add_argument("--rounds", type=int, default=3, help="at most 20")
    parser.add_argument("--build", action="store_true", help="build servers that are not there")
    parser.add_argument("--output", type=Path, help="where to write the JSON (default: stdout)")
    arguments = parser.parse_args()
    seconds, rounds = min(arguments.seconds, 30.0), min(arguments.rounds, 20)
    tools.write_result(measure(seconds, rounds, build=arguments.build), arguments.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
