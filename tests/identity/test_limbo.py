"""Path validation holds on the x509-limbo vectors; every case answered differently has a reason.

A case that is not in ``limbo_skips.json`` must be answered as the vectors expect, so an unknown
new case fails; one that is must still be answered differently, so a stale reason fails too.
"""

import datetime as dt
import gzip
import json
import warnings
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from watertight.identity.chain import (
    MAX_CHAIN_DEPTH,
    peer_name,
    verify_client_path,
    verify_server_path,
)
from watertight.identity.errors import UntrustedChain

VECTORS = Path(__file__).parents[1] / "vectors" / "x509-limbo.json.gz"
SKIPS: dict[str, str] = json.loads((Path(__file__).parent / "limbo_skips.json").read_text())
CASES: dict[str, dict[str, Any]] = {
    case["id"]: case for case in json.loads(gzip.decompress(VECTORS.read_bytes()))["testcases"]
}

ANY_TIME = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
"""For the cases that do not depend on it."""


def answer(case: dict[str, Any]) -> str:
    """What we say to a case, in the vectors' words."""
    load = x509.load_pem_x509_certificate
    depth = case["max_chain_depth"]
    limit = MAX_CHAIN_DEPTH if depth is None else depth
    try:
        leaf = load(case["peer_certificate"].encode())
        above = [load(pem.encode()) for pem in case["untrusted_intermediates"]]
        roots = [load(pem.encode()) for pem in case["trusted_certs"]]
        time = case["validation_time"]
        now = dt.datetime.fromisoformat(time) if time else ANY_TIME
        name = case["expected_peer_name"]
        if case["validation_kind"] == "SERVER" and name is not None:
            dialled = peer_name(name["value"])
            verify_server_path(leaf, above, roots, now, dialled, max_depth=limit)
        else:
            verify_client_path(leaf, above, roots, now, max_depth=limit)
    except (UntrustedChain, ValueError):  # ValueError: it does not even parse
        return "FAILURE"
    return "SUCCESS"


@pytest.mark.parametrize("case_id", CASES)
def test_limbo(case_id: str) -> None:
    case = CASES[case_id]
    with warnings.catch_warnings():
        # cryptography warns of the zero serials that some cases are about.
        warnings.simplefilter("ignore")
        found = answer(case)
    if case_id in SKIPS:
        assert found != case["expected_result"], f"stale skip: {SKIPS[case_id]}"
    else:
        assert found == case["expected_result"], case["description"]


def test_every_skip_names_a_case() -> None:
    assert SKIPS.keys() <= CASES.keys()
    assert len(CASES) == 208
