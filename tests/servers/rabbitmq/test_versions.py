"""Which versions are taken, with our guard and without."""

import pytest

from watertight.servers.rabbitmq.versions import fit, looks_at_copies


@pytest.mark.parametrize(
    ("version", "guarded", "alone"),
    [
        ("3.9.29", False, False),
        ("3.10.8", True, False),
        ("3.13.7", True, False),
        ("4.0.0", False, False),
        ("4.0.2", False, False),
        ("4.0.3", True, True),
        ("4.3.5", True, True),
    ],
)
def test_versions_are_told_apart(version: str, *, guarded: bool, alone: bool) -> None:
    assert (fit(version), looks_at_copies(version)) == (guarded, alone)
