"""How many X.509-SVIDs the authority issues a second, on one thread.

    python -m bench.identity --seconds 3 --output bench/results/identity.json

``issue`` is what the authority does: validate the request, sign, check what was signed, record it.
``whole`` adds what the keeper of an SVID does first: make a key pair and a request.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from bench import tools
from watertight.identity.authority import Authority
from watertight.identity.kek import FileKEK
from watertight.identity.requests import SVIDRequest
from watertight.identity.spiffe import SPIFFEID

TRUST_DOMAIN = "bench.internal"


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


def measure(seconds: float) -> dict[str, float]:
    """Both figures, with a new authority that writes its audit log to disk."""
    with tempfile.TemporaryDirectory(prefix="wt-bench-") as name:
        directory = Path(name)
        kek = FileKEK(directory / "kek")
        with Authority.create(directory / "authority", TRUST_DOMAIN, kek=kek) as authority:
            ready = request()
            return {
                "seconds": seconds,
                "issue_per_second": per_second(lambda: authority.issue(ready), seconds),
                "whole_per_second": per_second(lambda: authority.issue(request()), seconds),
            }


def main() -> int:
    parser = argparse.ArgumentParser(description="SVIDs issued per second")
    parser.add_argument("--seconds", type=float, default=3.0, help="each figure (at most 30)")
    parser.add_argument("--output", type=Path, help="where to write the JSON (default: stdout)")
    arguments = parser.parse_args()
    tools.write_result(measure(min(arguments.seconds, 30.0)), arguments.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
