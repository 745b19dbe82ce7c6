"""What a statement needs, by the manual's page of each command, and whether it is granted.

Only what PostgreSQL certainly asks for stands in a need: a statement that lacks one must be
refused.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from watertight.servers.postgresql.declaration import Grant, Target

ANY = "*"
"""A privilege on some column is enough (manual, section 5.8: ``SELECT count(*)``)."""


@dataclass(frozen=True, slots=True)
class Need:
    """One of these privileges, on the whole of a thing, or on the column if there is one."""

    privileges: tuple[str, ...]
    """Empty: nothing that can be granted is enough (ownership, another's role)."""
    target: Target | None = None
    column: str | None = None
    what: str = ""
    """In words, where no privilege is meant."""

    def __str__(self) -> str:
        if self.target is None:
            return self.what
        column = f" ({self.column})" if self.column and self.column != ANY else ""
        words = " or ".join(self.privileges) or self.what
        return f"{words}{column} on {self.target}"


def missing(grants: Iterable[Grant], needs: Sequence[Need]) -> str:
    """The first need that no grant meets, in words; empty if there is none."""
    held = frozenset(grants)
    return next((str(need) for need in needs if not _met(held, need)), "")


def _met(held: frozenset[Grant], need: Need) -> bool:
    return any(
        grant.target == need.target
        and grant.privilege in need.privileges
        and (grant.column is None or need.column in {ANY, grant.column})
        for grant in held
    )
