"""What every command refuses that needs the declaration, before anything else runs."""

from pathlib import Path

from watertight.cli.project import find_declaration
from watertight.enforcers.registry import resource_enforcers, resource_flaws
from watertight.model.findings import DeclarationError, Finding, Severity
from watertight.model.lint import lint
from watertight.model.load import load_file, locator
from watertight.model.system import System


def load_checked(path: Path) -> tuple[System, tuple[Finding, ...]]:
    """The declared system and the warnings. Raises DeclarationError if any finding is an error."""
    file = find_declaration(path)
    system = load_file(file)
    findings = lint(
        system,
        resource_kinds=resource_enforcers(),
        more=resource_flaws(system),
        locate=locator(file),
    )
    if any(finding.severity is Severity.ERROR for finding in findings):
        raise DeclarationError(findings)
    return system, tuple(findings)
