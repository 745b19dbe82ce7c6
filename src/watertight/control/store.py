"""What the control plane remembers beside the declaration, in ``.watertight/``."""

from pathlib import Path

import watertight.enforcers.registry  # noqa: F401 - tells the model which kinds there are
from watertight.errors import WatertightError
from watertight.identity.set_aside import SetAside
from watertight.model.dump import dump
from watertight.model.findings import DeclarationError
from watertight.model.load import load_text
from watertight.model.system import System
from watertight.runtime.files import write_atomically

CURRENT = "current.yaml"
ROOTS = "ca.pem"


class RecordUnreadable(WatertightError):
    """What was in force is written down in a form that this version does not read."""


class Store:
    """Files that are replaced whole: a crash leaves the old one or the new one."""

    def __init__(self, state: Path) -> None:
        self._state = state

    def current(self) -> System | None:
        """The system that was last in force; None before the first. Raises RecordUnreadable."""
        file = self._state / CURRENT
        try:
            return load_text(file.read_bytes(), CURRENT)
        except FileNotFoundError:
            return None
        except DeclarationError as error:
            raise RecordUnreadable(
                f"{file}, the record of what was last in force, cannot be read: "
                f"{error.findings[0]}",
                remedy="`watertight down` ends what still runs; then remove it.",
            ) from error

    def set_current(self, system: System) -> None:
        """Remembers what is in force. Raises OSError; room for it is set aside."""
        SetAside(self._state / CURRENT).replace(dump(system).encode())

    def set_aside(self, system: System) -> None:
        """Sets room aside to remember this one, before a program of it may take all there is.

        Raises OSError.
        """
        before = self.current() or System(system.trust_domain)
        SetAside(self._state / CURRENT).replace(
            dump(before).encode(), next_bytes=len(dump(system).encode())
        )

    def set_roots(self, pem: bytes) -> None:
        """The trust bundle as a file, for clients outside (``curl --cacert``)."""
        file = self._state / ROOTS
        if not file.exists() or file.read_bytes() != pem:
            write_atomically(file, pem)
