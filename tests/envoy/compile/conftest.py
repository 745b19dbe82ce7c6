"""A placement whose Unix sockets have short names."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from watertight.enforcers.contract import Placement


@pytest.fixture
def placement() -> Iterator[Placement]:
    """Everything on the host's own loopback, files in a directory that goes away."""
    with tempfile.TemporaryDirectory(prefix="wt-") as directory:
        yield Placement(Path(directory), Path(directory), shared_network=True)
