"""A finding: one thing that is wrong with a declaration, with a stable code and a position."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from watertight.errors import ExitCode, WatertightError
from watertight.model.system import Position


class Severity(StrEnum):
    """An error stops everything; a warning is only shown."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding. ``code`` has a page under ``docs/findings/``."""

    code: str
    message: str
    at: Position
    where: str = ""
    """The path in the document: ``channels[2].allow[0]``."""
    remedy: str = ""
    severity: Severity = Severity.ERROR

    def __str__(self) -> str:
        return f"{self.at}: {self.code}: {self.message} {self.remedy}".strip()


class DeclarationError(WatertightError):
    """The declaration does not load. Holds *all* findings of the file, in order of position."""

    exit_code = ExitCode.FOUND_WRONG

    def __init__(self, findings: Sequence[Finding]) -> None:
        super().__init__("\n".join(str(f) for f in findings))
        self.findings = tuple(findings)


class MachineLacks(DeclarationError):
    """The declaration is right, and this machine has not what it names."""

    exit_code = ExitCode.COULD_NOT
