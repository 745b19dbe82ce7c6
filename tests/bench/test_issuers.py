"""The other issuers: their SVIDs are ours' likes, and one that refuses is heard."""

from pathlib import Path

import pytest

from bench import issuers, tables

IDENTITY = {
    "issue_per_second": 1000.0,
    "whole_per_second": 900.0,
    "versions": {"step-ca": "v1"},
    "not_measured": ["SPIRE"],
    "per_processor_second": {"authority": 1000.0, "step-ca": 500.0},
    "ratios": {"step-ca": 2.0},
}


@pytest.mark.parametrize("name", issuers.PEERS)
def test_it_issues_and_its_processor_time_is_seen(name: str, tmp_path: Path) -> None:
    program, served = issuers.PEERS[name]
    if (path := issuers.program(program, build=False)) is None:
        pytest.skip(f"{program} is not there; `make bench` builds it where there is Go")
    with served(path, tmp_path, 0.5) as issuer:
        assert issuers.per_processor_second(issuer, 0.2) > 0


def test_a_program_that_does_not_serve_is_said_to(tmp_path: Path) -> None:
    with (
        pytest.raises(RuntimeError, match="/bin/false does not serve"),
        issuers.spire("/bin/false", tmp_path, 0.1),
    ):
        pass


def test_what_is_not_there_is_not_measured_and_says_so() -> None:
    page = tables.render("identity", IDENTITY)
    assert "| step-ca v1 | 500 | 2.00 × |" in page
    assert "| SPIRE | *not measured* | — |" in page
