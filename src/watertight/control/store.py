"""What the control plane remembers beside the declaration, in ``.watertight/``."""

from pathlib import Path

from watertight.model.dump import dump
from watertight.model.load import load_text
from watertight.model.system import System
from watertight.runtime.files import write_atomically

CURRENT = "current.yaml"
ROOTS = "ca.pem"


class Store:
    """Files that are replaced whole: a crash leaves the old one or the new one."""

    def __init__(self, state: Path) -> None:
        self._state = state

    def current(self) -> System | None:
        """The system that was last in force; None before the first."""
        try:
            return load_text((self._state / CURRENT).read_bytes(), CURRENT)
        except FileNotFoundError:
            return None

    def set_current(self, system: System) -> None:
        """Remembers what is in force."""
        write_atomically(self._state / CURRENT, dump(system).encode())

    def set_roots(self, pem: bytes) -> None:
        """The trust bundle as a file, for clients outside (``curl --cacert``)."""
        file = self._state / ROOTS
        if not file.exists() or file.read_bytes() != pem:
            write_atomically(file, pem)
