"""What a person asks of a control plane. Light: every command imports it, and only one serves."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from watertight.model.system import System


class What(StrEnum):
    """What can be rotated."""

    LEAF = "leaf"
    ISSUER = "issuer"
    ROOT = "root"


@dataclass(frozen=True, slots=True)
class Options:
    """How a system is to run."""

    declaration: Path
    load: Callable[[], System]
    """Reads and checks the declaration anew. Raises DeclarationError."""
    say: Callable[[str], None]
    """Progress, for people."""
    svid_ttl_seconds: int = 3600
    watch: bool = False
    """Apply the declaration whenever its file changes."""
    tidy: Callable[[], None] = lambda: None
    """Keeps our own logs within their bounds; called every second."""
