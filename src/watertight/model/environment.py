"""What a declaration says in the environment of services: secrets, and what nobody expands."""

import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from watertight.model import codes
from watertight.model.document import DocumentPath, quoted
from watertight.model.findings import Severity
from watertight.model.rules import Flaw
from watertight.model.system import System

_SECRET = re.compile(
    r"(?:^|_)(?:PASS|PASSWD|PASSWORD|PASSPHRASE|PWD|SECRET|TOKEN|CREDENTIALS?"
    r"|(?:API|ACCESS|PRIVATE|SECRET|SIGNING|ENCRYPTION)_?KEY|APIKEY)$",
    re.IGNORECASE,
)
"""The last word decides: ``TOKEN_URL`` and ``DB_PASSWORD_FILE`` hold none."""
_LOGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/\s:@]*:[^/\s@]+@", re.IGNORECASE)
"""A URL with a password in it (RFC 3986 section 3.2.1)."""
_EXPANSION = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*(?::?[-=?+][^}]*)?\}")
"""As shells and Compose files write it (POSIX.1-2017, XCU section 2.6.2)."""
_SHELLS = {"sh", "bash", "dash", "ash", "zsh", "ksh", "busybox"}


def secret_flaws(system: System) -> Iterator[Flaw]:
    """A warning for each variable that looks like a secret. Its value is never repeated."""
    for name, service in system.services.items():
        for variable, value in service.environment.items():
            if (_SECRET.search(variable) and value) or _LOGIN.match(value):
                yield Flaw(
                    codes.SENSITIVE_VARIABLE,
                    ("services", name, "environment", variable),
                    f"{quoted(variable)} looks like a secret, and a declaration is no place for "
                    "one: it is committed and shown.",
                    "A channel to a resource needs no password. For another server put it in a "
                    f"file below `.watertight/data/{name}/`, which {quoted(name)} alone sees, and "
                    "name the file here.",
                    severity=Severity.WARNING,
                )


def expansion_flaws(system: System) -> Iterator[Flaw]:
    """A warning for each ``${NAME}`` that a program gets as it stands: nothing is expanded here."""
    for name, service in system.services.items():
        for variable, value in service.environment.items():
            if found := _EXPANSION.search(value):
                yield _not_expanded(("services", name, "environment", variable), found[0])
        if not service.run or PurePosixPath(service.run[0]).name in _SHELLS:
            continue
        for number, word in enumerate(service.run):
            if found := _EXPANSION.search(word):
                yield _not_expanded(("services", name, "run", number), found[0])


def _not_expanded(path: DocumentPath, what: str) -> Flaw:
    return Flaw(
        codes.NOT_EXPANDED,
        path,
        f"{quoted(what)} reaches the program as it stands here: nothing is expanded, and nothing "
        "of your shell's environment reaches a service.",
        "Write the value itself. If the program expands it by itself, all is well.",
        severity=Severity.WARNING,
    )
