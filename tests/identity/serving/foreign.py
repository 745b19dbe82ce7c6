"""A workload that nobody here wrote the library of: py-spiffe, told of us by its environment.

Prints one JSON line for each thing that it did. Run as a process by ``test_foreign_client``.
"""

import json
import queue
import sys
from typing import Any

from spiffe import JwtSvid, TrustDomain, WorkloadApiClient, X509Source


def say(**what: Any) -> None:
    """Tells the test."""
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def one_by_one(client: WorkloadApiClient, domain: TrustDomain) -> None:
    """Every method of the Workload API once."""
    svid = client.fetch_x509_svid()
    serial = svid.leaf.serial_number
    say(did="x509", id=str(svid.spiffe_id), serial=serial, chain=len(svid.cert_chain))
    bundle: Any = client.fetch_x509_bundles().get_bundle_for_trust_domain(domain)
    say(did="x509-bundles", roots=len(bundle.x509_authorities))
    token = client.fetch_jwt_svid({"billing"})
    say(did="jwt", id=str(token.spiffe_id), audience=sorted(token.audience))
    say(did="validate", id=str(client.validate_jwt_svid(token.token, "billing").spiffe_id))
    jwks: Any = client.fetch_jwt_bundles().get_bundle_for_trust_domain(domain)
    parsed = JwtSvid.parse_and_validate(token.token, jwks, {"billing"})
    say(did="jwt-bundles", id=str(parsed.spiffe_id))


def watch() -> None:
    """The stream: says what it has, and then the SVID after the next change."""
    updates: queue.Queue[bool] = queue.Queue()
    with X509Source(timeout_in_seconds=20) as source:
        source.subscribe_for_updates(lambda: updates.put(True))
        first = source.svid.leaf.serial_number
        say(did="watch", serial=first)
        while source.svid.leaf.serial_number == first:
            updates.get(timeout=30)
        (bundle,) = source.bundles
        serial = source.svid.leaf.serial_number
        say(did="update", serial=serial, roots=len(bundle.x509_authorities))


def main() -> None:
    """All of it, with the socket of ``SPIFFE_ENDPOINT_SOCKET``."""
    with WorkloadApiClient(default_timeout=20) as client:
        one_by_one(client, TrustDomain(sys.argv[1]))
    watch()


if __name__ == "__main__":
    main()
