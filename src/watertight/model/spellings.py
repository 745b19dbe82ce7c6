"""Other spellings of a guarded path: what a looser route behind it must not take.

Routers forgive: many take ``/admin/``, ``/Admin``, ``/admin;x`` or ``/admin.`` for ``/admin``. If
that demands what ``/**`` behind it does not, the latter would answer them all.
"""

import re
from collections.abc import Sequence

from watertight.model.system import Requirement, Route
from watertight.model.template_index import TemplateIndex
from watertight.model.templates import VARIABLE, parse_template

_PARAMETERS = "(?:(?:;|%3b)[^/]*)?"
_SLASH = "/(?:(?:(?:;|%3b)[^/]*)?/)*"
"""With others after it, which are merged where nothing but parameters stands between them."""
_LEFT_OFF = r"(?:/|\.|%20|%09|%0a|%0d|%2e|%5c)*"
"""What some routers leave off at the end: slashes, points, what is blank."""


def spelling(template: str) -> str:
    """A regular expression of the paths that some router takes for one of the template.

    It fits those too that are of the template.
    """
    segments = template[1:].split("/")
    if segments[-1] == "**":
        return f"(?i){_SLASH}" + _SLASH.join([*map(_segment, segments[:-1]), ".*"])
    return f"(?i){_SLASH}" + _SLASH.join(map(_segment, segments)) + _LEFT_OFF + "(?:(?:;|%3b).*)?"


def _segment(text: str) -> str:
    if text == "*":
        return "[^/]+"
    return "[^/]+".join(map(re.escape, VARIABLE.split(text)[::2])) + _PARAMETERS


class Guards:
    """Of each route the earlier ones whose other spellings it leaves alone."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self._found: dict[tuple[int, str], tuple[Route, ...]] = {}
        earlier: dict[tuple[str, str], dict[Requirement, TemplateIndex[int]]] = {}
        for number, route in enumerate(routes):
            here = parse_template(route.path)
            for method in route.methods:
                demands = earlier.setdefault((route.target, method), {})
                if here.wildcards and (
                    found := {
                        guard
                        for demand, index in demands.items()
                        if lets_others_in(route.require, demand)
                        for guard in index.overlapping(here)
                    }
                ):
                    self._found[number, method] = tuple(routes[guard] for guard in sorted(found))
                if route.require is not None:
                    index = demands.setdefault(route.require, TemplateIndex())
                    index.add(here, number)
                    index.add(here.below(), number)

    def of(self, number: int, method: str) -> tuple[Route, ...]:
        """Those to the same service, for that method, that demand what this route does not.

        A route for one path is for what it names, and leaves nothing alone.
        """
        return self._found.get((number, method), ())


def lets_others_in(one: Requirement | None, other: Requirement | None) -> bool:
    """Whether ``one`` may be met by somebody who does not meet ``other``."""
    if one is None or other is None:
        return other is not None
    return not (
        one.issuer == other.issuer
        and set(other.scopes) <= set(one.scopes)
        and set(other.claims) <= set(one.claims)
        and other.any_claims in {(), one.any_claims}
    )


def demands_less(one: Requirement | None, other: Requirement | None) -> bool:
    """Whether ``one`` asks for a part of what ``other`` does, and for nothing else."""
    return lets_others_in(one, other) and not lets_others_in(other, one)
