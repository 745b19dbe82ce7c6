"""What the tests of the identity doors share."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def short() -> Iterator[Path]:
    """A directory whose path leaves room for a Unix socket's name, open to every uid."""
    with tempfile.TemporaryDirectory(prefix="wt-") as name:
        Path(name).chmod(0o755)
        yield Path(name)
