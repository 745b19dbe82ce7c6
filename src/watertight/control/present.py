"""Whether what a declaration names is on this machine: programs, directories, files, servers.

``up`` and ``apply`` refuse what they could not bring up, all of it at once and before anything is
touched. ``lint`` may run on another machine than the one that runs the system (a laptop, CI), so
there the same is a warning, with a ``W`` in its code.
"""

import os
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from watertight.enforcers.registry import resource_enforcers
from watertight.enforcers.resource import ReadsFiles, ServerMissing
from watertight.model import codes
from watertight.model.document import DocumentPath, quoted
from watertight.model.findings import Severity
from watertight.model.flow import as_list
from watertight.model.nearest import did_you_mean_beside
from watertight.model.placement import Placement
from watertight.model.rules import Flaw
from watertight.model.system import Gateway, Issuer, Service, System
from watertight.runtime.programs import ProgramNotFoundError, find_program, search_path

SBIN = ("/usr/local/sbin", "/usr/sbin")
"""Where Debian puts servers; not on the path of an ordinary user."""
INTERPRETERS = ("python", "python3", "node", "ruby", "perl", "php", "bash", "sh")
"""Programs whose first argument, unless it is an option, is the file that they run."""
_WARNINGS: Mapping[str, str] = {
    codes.FILE_MISSING: codes.FILE_MISSING_HERE,
    codes.PROGRAM_MISSING: codes.PROGRAM_MISSING_HERE,
    codes.DIRECTORY_MISSING: codes.DIRECTORY_MISSING_HERE,
    codes.KEY_SET_REFUSED: codes.KEY_SET_REFUSED_HERE,
    codes.CERTIFICATE_REFUSED: codes.CERTIFICATE_REFUSED_HERE,
    codes.SERVER_MISSING: codes.SERVER_MISSING_HERE,
}


def missing(system: System, project: Path, run_directory: Path) -> Iterator[Flaw]:
    """Everything that ``up`` would look for on this machine and not find.

    ``system`` has passed every other check. Reads files and looks for programs; opens no
    connection, and changes nothing.
    """
    path = search_path(os.environ)
    for name, service in system.services.items():
        yield from _service(service, ("services", name), project, path)
    yield from _resources(system, Placement(run_directory, project))
    if system.gateway is not None:
        yield from _issuers(system.gateway, project)
        yield from _certificate(system.gateway, project)


def as_warning(flaw: Flaw) -> Flaw:
    """The same, for a machine that perhaps is not to run it."""
    return replace(flaw, code=_WARNINGS.get(flaw.code, flaw.code), severity=Severity.WARNING)


def server_path() -> str:
    """Where programs of databases and brokers are looked for."""
    return os.pathsep.join((search_path(os.environ), *SBIN))


def _service(service: Service, at: DocumentPath, project: Path, path: str) -> Iterator[Flaw]:
    if service.contract is not None and (why := _unreadable(project / service.contract)):
        what = f"The contract {quoted(service.contract)} {why}."
        yield as_warning(
            Flaw(codes.FILE_MISSING, (*at, "contract"), what, _near(project, service.contract))
        )
    if not service.run:
        return
    directory = project / service.directory
    if not directory.is_dir():
        yield Flaw(
            codes.DIRECTORY_MISSING,
            (*at, "directory"),
            f"{quoted(service.name)} is to start in {quoted(service.directory)}, which "
            + ("is no directory." if directory.exists() else "is not there."),
            _near(project, service.directory) or "It is relative to the declaration.",
        )
        return
    try:
        find_program(service.run[0], directory.resolve(), path, service.at)
    except ProgramNotFoundError as error:
        what = f"{quoted(service.name)} cannot start: {error.what}."
        yield Flaw(codes.PROGRAM_MISSING, (*at, "run", 0), what, _split(service) or error.remedy)
        return
    yield from _script(service, at, directory)


def _split(service: Service) -> str:
    """What to write in place of a command that is one word: no shell takes it apart."""
    try:
        words = shlex.split(service.run[0])
    except ValueError:  # a quote that is not closed
        return ""
    if len(words) == 1:
        return ""
    return f"Split it into words: `run: {as_list((*words, *service.run[1:]))}`."


def _script(service: Service, at: DocumentPath, directory: Path) -> Iterator[Flaw]:
    """``[python, page.py]``: the interpreter is there, but the file may not be."""
    program, *arguments = service.run
    if Path(program).name not in INTERPRETERS or not arguments or arguments[0].startswith("-"):
        return
    if why := _unreadable(directory / arguments[0], directories=True):
        yield Flaw(
            codes.FILE_MISSING,
            (*at, "run", 1),
            f"{quoted(service.name)} cannot start: {quoted(arguments[0])}, which "
            f"{quoted(program)} is to run, {why}.",
            _near(directory, arguments[0])
            or f"It is looked for in {directory}: correct the name, or set `directory`.",
        )


def _resources(system: System, placement: Placement) -> Iterator[Flaw]:
    for name, resource in system.resources.items():
        enforcer = resource_enforcers().get(resource.kind)
        if enforcer is None or resource.external:
            continue
        project = placement.project_directory
        files = enforcer.project_files(resource) if isinstance(enforcer, ReadsFiles) else {}
        for key, file in files.items():
            if why := _unreadable(project / file):
                yield Flaw(
                    codes.FILE_MISSING,
                    ("resources", name, key),
                    f"The {key} {quoted(file)} of {quoted(name)} {why}.",
                    _near(project, file) or "It is relative to the declaration.",
                )
        try:
            plan = enforcer.compile(system, placement)[name]
            enforcer.locate(plan, placement, server_path())
        except ServerMissing as error:
            yield Flaw(
                codes.SERVER_MISSING, ("resources", name), error.message, error.remedy, on_key=True
            )


def _issuers(gateway: Gateway, project: Path) -> Iterator[Flaw]:
    """Key sets at a URL are asked for by ``up`` alone; issuers that no route requires, never."""
    required = {route.require.issuer for route in gateway.routes if route.require}
    for name, issuer in gateway.issuers.items():
        if name in required and "://" not in issuer.jwks:
            yield from _key_set(issuer, ("gateway", "issuers", name, "jwks"), project)


def _key_set(issuer: Issuer, at: DocumentPath, project: Path) -> Iterator[Flaw]:
    if why := _unreadable(project / issuer.jwks):
        remedy = _near(project, issuer.jwks) or "It is relative to the declaration."
        what = f"The key set {quoted(issuer.jwks)} of the issuer {quoted(issuer.name)} {why}."
        yield Flaw(codes.FILE_MISSING, at, what, remedy)
        return
    # Who declares no key set does not wait for what reads one.
    from watertight.gateway import fetching  # noqa: PLC0415
    from watertight.gateway.keysets import JWKSRefused  # noqa: PLC0415

    try:
        fetching.read(issuer, project)
    except JWKSRefused as refusal:
        yield Flaw(codes.KEY_SET_REFUSED, at, refusal.message, refusal.remedy)


def _certificate(gateway: Gateway, project: Path) -> Iterator[Flaw]:
    if gateway.certificate is None or gateway.private_key is None:
        return
    complete = True
    for key, file in (("certificate", gateway.certificate), ("private_key", gateway.private_key)):
        if why := _unreadable(project / file):
            complete = False
            what = f"The gateway's {key.replace('_', ' ')} {quoted(file)} {why}."
            yield Flaw(codes.FILE_MISSING, ("gateway", key), what, _near(project, file))
    if not complete:
        return
    from watertight.control import certificates  # noqa: PLC0415

    try:
        certificates.GatewayCertificate.declared(gateway, project)
    except certificates.CertificateRefused as refusal:
        yield Flaw(
            codes.CERTIFICATE_REFUSED,
            ("gateway", "certificate"),
            f"{quoted(gateway.certificate)} with {quoted(gateway.private_key)} cannot be served: "
            f"{refusal.why}.",
            certificates.MATCHING_PAIR,
        )


def _unreadable(path: Path, *, directories: bool = False) -> str:
    """Why a file cannot be read, in words that follow its name; nothing if it can."""
    try:
        if path.is_dir():
            return "" if directories else "is a directory"
        with path.open("rb") as file:
            file.read(1)
    except FileNotFoundError:
        return "is not there"
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else None
        return f"cannot be read: {reason or error}"
    return ""


def _near(directory: Path, name: str) -> str:
    """What stands in the place of a missing file under a like name."""
    path = directory / name
    try:
        beside = [found.name for found in path.parent.iterdir()]
    except OSError:
        return ""
    if path.name in beside:
        return ""
    return did_you_mean_beside(name, beside)
