"""What every command refuses that needs the declaration, before anything else runs."""

from collections.abc import Iterable
from pathlib import Path

from watertight.cli.project import find_declaration
from watertight.enforcers.registry import resource_enforcers, resource_flaws
from watertight.model.findings import DeclarationError, Finding, MachineLacks, Severity
from watertight.model.lint import in_order, lint, located
from watertight.model.load import load_file, locator
from watertight.model.rules import Flaw
from watertight.model.system import System


def load_checked(path: Path) -> tuple[System, tuple[Finding, ...]]:
    """The declared system and the warnings. Raises DeclarationError if any finding is an error."""
    file = find_declaration(path)
    system = load_file(file)
    findings = lint(
        system,
        resource_kinds=resource_enforcers() if system.resources else (),  # which takes its time
        more=resource_flaws(system),
        locate=locator(file),
    )
    return system, _warnings(findings, DeclarationError)


def load_for_lint(path: Path) -> tuple[System, tuple[Finding, ...]]:
    """The same, with warnings of environments and of what is not on this machine."""
    system, findings = load_checked(path)
    file = find_declaration(path)
    warned = located(system, _environments(system, file), locator(file))
    return system, in_order((*findings, *warned, *absent_here(system, path)))


def absent_here(system: System, path: Path) -> tuple[Finding, ...]:
    """A warning for each thing that is not on this machine, for which it would not run here."""
    from watertight.control.present import as_warning  # noqa: PLC0415 - many commands need not look

    file = find_declaration(path)
    return located(system, map(as_warning, _missing(system, file)), locator(file))


def load_for_this_machine(path: Path) -> tuple[System, tuple[Finding, ...]]:
    """The same, for a command that runs it: what is not on this machine raises MachineLacks."""
    system, findings = load_checked(path)
    file = find_declaration(path)
    flaws = (*_environments(system, file), *_missing(system, file), *_taken(system, file))
    absent = located(system, flaws, locator(file))
    return system, _warnings(in_order((*findings, *absent)), MachineLacks)


def _missing(system: System, file: Path) -> Iterable[Flaw]:
    from watertight.control.present import missing  # noqa: PLC0415
    from watertight.runtime.runs import run_directory  # noqa: PLC0415

    declaration = file.resolve()
    return missing(system, declaration.parent, run_directory(declaration.parent))


def _environments(system: System, file: Path) -> Iterable[Flaw]:
    if not any(service.environment for service in system.services.values()):
        return ()
    from watertight.control.environments import overridden, secrets_for_all  # noqa: PLC0415

    project = file.resolve().parent
    return (*secrets_for_all(system, project), *overridden(system, project))


def _taken(system: System, file: Path) -> Iterable[Flaw]:
    from watertight.control.ports import taken  # noqa: PLC0415
    from watertight.runtime.runs import run_directory  # noqa: PLC0415

    declaration = file.resolve()
    return taken(system, declaration.parent, run_directory(declaration.parent))


def _warnings(
    findings: tuple[Finding, ...], refusal: type[DeclarationError]
) -> tuple[Finding, ...]:
    """The findings, if none is an error. Raises a refusal with all of them."""
    if any(finding.severity is Severity.ERROR for finding in findings):
        raise refusal(findings)
    return findings
