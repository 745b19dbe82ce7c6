"""Folders for systems: short, as sockets want them, and open to the users that services run as."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def public_folder() -> Iterator[Path]:
    """A temporary directory that every user may look into, gone in the end."""
    directory = Path(tempfile.mkdtemp(prefix="wt-"))
    directory.chmod(0o755)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
