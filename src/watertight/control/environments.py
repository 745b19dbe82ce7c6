"""What the environment of services says that is perhaps not meant, of paths and of our own names.

Warnings for ``lint``: files with secrets that every service could read, and variables that take
the place of one that Watertight gives.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from watertight.model import codes
from watertight.model.document import quoted
from watertight.model.findings import Severity
from watertight.model.rules import Flaw
from watertight.model.system import Service, System
from watertight.runtime.files import STATE_DIRECTORY

_SECRET_WORD = re.compile(
    r"(?<![a-z])(?:secrets?|passw(?:or)?ds?|passphrase|tokens?|credentials?"
    r"|(?:api|access|private|signing)[_-]?key|id_(?:rsa|ed25519|ecdsa))(?![a-z])",
    re.IGNORECASE,
)
"""In the name of a file or of one of its folders: ``db-password``, ``secrets/db``."""
_PUBLIC_SUFFIXES = {".py", ".js", ".ts", ".go", ".java", ".rb", ".pub", ".crt", ".md", ".html"}
_SECRET_SUFFIXES = {".key", ".p12", ".pfx", ".jks", ".keystore", ".kdbx"}
_PRIVATE_KEY = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----")  # RFC 7468 section 10
_NAMES_A_FILE = re.compile(r"_(?:FILE|PATH|DIR|DIRECTORY)$", re.IGNORECASE)
_READ_BYTES = 64 * 1024
_LONGEST_PATH = 4095
"""PATH_MAX without its end (limits.h(0p))."""
HARMLESS = {"PYTHONUNBUFFERED", "USER", "LOGNAME"}
"""Given so that programs do well without more; whoever says otherwise means it."""


def secrets_for_all(system: System, project: Path) -> Iterator[Flaw]:
    """A warning for each variable that names a file of the project that looks like a secret.

    Every service sees the whole project, without the state directory; of that, each service sees
    its own data. Looks at names, and reads the beginning of ``.pem`` files; never repeats it.
    """
    for name, service in system.services.items():
        for variable, value in service.environment.items():
            path = _inside(project, service, value)
            if path is None or not _is_secret(path, project, variable):
                continue
            yield Flaw(
                codes.READABLE_BY_ALL,
                ("services", name, "environment", variable),
                f"Every service can read {quoted(str(path.relative_to(project)))}, which looks "
                "like a secret: the whole project is shown to all of them.",
                f"Put it below `{STATE_DIRECTORY}/data/{name}/`, which {quoted(name)} alone sees.",
                severity=Severity.WARNING,
            )


def _inside(project: Path, service: Service, value: str) -> Path | None:
    """The file that a value names, if it is one that every service would be shown."""
    if not value or "\0" in value or "://" in value or len(value) > _LONGEST_PATH:
        return None
    try:
        path = (project / service.directory / value).resolve()
    except (OSError, RuntimeError):  # a loop of links
        return None
    shown = path.is_relative_to(project) and not path.is_relative_to(project / STATE_DIRECTORY)
    return path if shown and path != project else None


def _is_secret(path: Path, project: Path, variable: str) -> bool:
    try:
        is_file = path.is_file()
    except OSError:  # a name that is too long, or not ours to look at
        return False
    # What is no file is a word, unless the variable says that it names one: it may come later.
    if not is_file and not _NAMES_A_FILE.search(variable):
        return False
    suffix = path.suffix.lower()
    if suffix == ".pem" and is_file:
        return _holds_private_key(path)
    if suffix in _SECRET_SUFFIXES:
        return True
    words = path.relative_to(project).parts
    return suffix not in _PUBLIC_SUFFIXES and any(map(_SECRET_WORD.search, words))


def _holds_private_key(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return _PRIVATE_KEY.search(file.read(_READ_BYTES)) is not None
    except OSError:
        return False


def overridden(system: System, project: Path) -> Iterator[Flaw]:
    """A warning for each variable of a declaration that takes the place of one of ours."""
    for name, service in system.services.items():
        if not service.environment:
            continue
        given = _given(system, project, name)
        for variable in sorted(given.keys() & service.environment.keys() - HARMLESS):
            yield Flaw(
                codes.OVERRIDDEN_VARIABLE,
                ("services", name, "environment", variable),
                f"Watertight gives {quoted(name)} a variable {quoted(variable)}, and this one "
                "takes its place.",
                "Delete it, or choose another name. `watertight env` lists what a service is "
                "given.",
                severity=Severity.WARNING,
            )


def _given(system: System, project: Path, service: str) -> dict[str, str]:
    """What the service would be given in a sandbox; only the names are of use."""
    # Most declarations say nothing here, and most commands are short.
    from watertight.control.clients import client_of, environment_of  # noqa: PLC0415
    from watertight.enforcers.registry import resource_enforcers  # noqa: PLC0415
    from watertight.runtime.capabilities import HostCapabilities, Isolation  # noqa: PLC0415
    from watertight.runtime.environment import given_environment  # noqa: PLC0415
    from watertight.runtime.layout import Layout  # noqa: PLC0415

    layout = Layout(
        project / "watertight.yaml",
        project / STATE_DIRECTORY,
        project / STATE_DIRECTORY / "run",
        HostCapabilities(Isolation.USER_NAMESPACES),
    )
    reached = [
        client_of(system, layout.placement, channel)[1]
        for channel in system.outgoing(service)
        if channel.target in system.resources
        and system.resources[channel.target].kind in resource_enforcers()
    ]
    return given_environment(system, layout, {}, service, environment_of(reached))
