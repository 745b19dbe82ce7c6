"""Secrets that stand in a declaration, which is committed, copied and shown."""

import re
from collections.abc import Iterator

from watertight.model import codes
from watertight.model.document import quoted
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
                    f"file that only {quoted(name)} reads, and name the file here.",
                    severity=Severity.WARNING,
                )
