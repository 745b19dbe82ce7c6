"""Path templates as Envoy matches them: uri_template, or a regular expression where it cannot.

Envoy's uri_template takes letters, digits and ``-._~`` in literals only. A literal of other
characters becomes a regular expression that means the same, and in which each such character also
fits in its escaped form: programs take ``/%40user`` for ``/@user``, and a route for the one must
not be passed by the other.
"""

import re
from collections.abc import Collection, Iterable

from watertight.enforcers.envoy.compile.blocks import Json, extension
from watertight.model.system import Route
from watertight.model.templates import ODD, odd_characters

_ANY_SEGMENT = r"[^/\[\]]+"
_ANY = r"[^\[\]]"
_URI_TEMPLATE = "envoy.path.match.uri_template.uri_template_matcher"
_URI_TEMPLATE_KIND = "extensions.path.match.uri_template.v3.UriTemplateMatchConfig"

ESCAPED_SLASH = r"[^?]*%2[fF].*"
DOUBLE_SLASH = r"[^?]*//.*"
ESCAPED_BACKSLASH = r"[^?]*%5[cC].*"
DOTS_AT_ESCAPED_SLASH = (
    r"(?i)[^?]*(%2f(\.|%2e){1,2}([/;?]|%2f|%3b|$)|(/|%2f)(\.|%2e){1,2}(;[^/?]*)?%2f).*"
)
"""Of ``:path``, which holds the query too."""


def is_odd(*templates: str | None) -> bool:
    """Whether one of them is beyond uri_template."""
    return any(template is not None and odd_characters(template) for template in templates)


def uri_template(pattern: str) -> Json:
    """Envoy's matcher for a template in its own notation."""
    return extension(_URI_TEMPLATE, _URI_TEMPLATE_KIND, path_template=pattern)


def regex(template: str, *, rest: str) -> str:
    """The template as a regular expression of a whole path, each wildcard a group.

    ``rest`` is how often a character may stand for ``**``: ``+`` as grants mean it, ``*`` as routes
    are chosen.
    """
    parts = [
        f"({_ANY}{rest})"
        if segment == "**"
        else f"({_ANY_SEGMENT})"
        if segment == "*" or segment.startswith("{")
        else "".join(map(_literal, segment))
        for segment in template[1:].split("/")
    ]
    return "/" + "/".join(parts)


def substitution(template: str) -> str:
    """A rewrite for what :func:`regex` matched, its wildcards by their number."""
    number = 0
    segments = []
    for segment in template[1:].split("/"):
        if segment in {"*", "**"} or segment.startswith("{"):
            number += 1
            segments.append(f"\\{number}")
        else:
            segments.append(segment)
    return "/" + "/".join(segments)


def _literal(character: str) -> str:
    if not ODD.fullmatch(character):
        return re.escape(character)
    escape = f"%{ord(character):02X}"
    anyhow = "".join(f"[{c}{c.lower()}]" if c.isalpha() else c for c in escape)
    return f"(?:{re.escape(character)}|{anyhow})"


def without(pattern: str) -> Json:
    """A header matcher: ``:path`` does not fit this pattern."""
    return {**_path_header(pattern), "invert_match": True}


def denied(pattern: str) -> Json:
    """The permission for every request whose ``:path`` does not fit this pattern."""
    return {"not_rule": {"header": _path_header(pattern)}}


def kept_slashes(routes: Iterable[Route]) -> Json:
    """Of a connection manager on whose way these routes lie: what it must leave as it is.

    What Envoy does by itself the routes, and the grants behind them, must do then.
    """
    escaped = any(route.escaped_slashes for route in routes)
    return {
        "path_with_escaped_slashes_action": "KEEP_UNCHANGED" if escaped else "REJECT_REQUEST",
        **merging(routes),
    }


def merging(routes: Iterable[Route]) -> Json:
    """Of a connection manager on whose way these routes lie: whether ``//`` becomes ``/``."""
    return {"merge_slashes": not any(route.double_slashes for route in routes)}


def refused_slashes(routes: Iterable[Route], taking: Collection[Route]) -> list[str]:
    """What reaches these routes because some of them opt out, and none of ``taking`` takes."""
    refused = []
    if any(r.escaped_slashes for r in routes) and not any(r.escaped_slashes for r in taking):
        refused.append(ESCAPED_SLASH)
    if any(r.double_slashes for r in routes) and not any(r.double_slashes for r in taking):
        refused.append(DOUBLE_SLASH)
    return refused


def never(routes: Iterable[Route]) -> list[str]:
    """What reaches these routes because some of them opt out, and no opt-out opens."""
    kept = any(route.escaped_slashes for route in routes)
    return [ESCAPED_BACKSLASH, DOTS_AT_ESCAPED_SLASH] if kept else []


def _path_header(pattern: str) -> Json:
    return {"name": ":path", "string_match": {"safe_regex": {"regex": pattern}}}
