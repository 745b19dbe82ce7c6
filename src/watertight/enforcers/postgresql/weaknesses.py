"""What PostgreSQL leaves open between services, and nobody can close: the proof says it. Pure."""

from collections.abc import Iterator

from watertight.enforcers.postgresql.declaration import KIND
from watertight.model import codes
from watertight.model.document import quoted
from watertight.model.findings import Finding, Severity
from watertight.model.system import System


def weaknesses(system: System) -> Iterator[Finding]:
    """``NOTIFY`` and ``LISTEN``, for which there is no privilege, wherever services share one."""
    for resource in system.resources.values():
        sharing = [quoted(c.source) for c in system.incoming(resource.name)]
        if resource.kind == KIND and len(sharing) > 1:
            yield Finding(
                codes.UNDECLARED_NOTICES,
                f"PostgreSQL lets whoever may log in NOTIFY and LISTEN, and the channel does not "
                f"say so, at {quoted(resource.name)}: {', '.join(sharing)}.",
                resource.at,
                remedy="Let none of them trust a notification or put a secret into one; or give "
                "each a database of its own.",
                severity=Severity.WARNING,
            )
