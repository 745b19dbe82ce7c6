"""Path templates as Envoy matches them: a whole path, or a regular expression of one.

Envoy's own uri_template knows fewer characters than clients write into paths, and no segment that
is half a wildcard; and it compiles its expression for each request, where a regular expression of
ours is compiled once. In a literal each character that programs read in several ways also fits in
its escaped form: they take ``/%40user`` for ``/@user``, and a route for the one must not be passed
by the other.
"""

import re
from collections.abc import Collection, Iterable

from watertight.dataplane.compile.blocks import Json
from watertight.model.system import Route
from watertight.model.templates import ODD, VARIABLE, odd_characters, wildcard_texts

_EMPTY = "(?:(?:;|%3[bB])[^/]*)?"
"""A segment with nothing in it, or with parameters of nothing."""
_BEGUN = "(?:[^/;%]|%(?:[^/3]|3[^/bB]))[^/]*"
_ALL_PERCENT = "%3?"
"""What a wildcard stands for begins like this, or is this: no empty segment."""
_SEGMENT = f"({_BEGUN}|{_ALL_PERCENT})"
_REST = f"((?:{_EMPTY}/)*(?:{_BEGUN}(?:/.*)?|{_ALL_PERCENT}(?:/.*)?))"
_ANYTHING = "(.*)"

ESCAPED_SLASH = r"[^?]*%2[fF].*"
DOUBLE_SLASH = r"[^?]*//.*"
ESCAPED_BACKSLASH = r"[^?]*%5[cC].*"
DOTS_AT_ESCAPED_SLASH = (
    r"(?i)[^?]*(%2f(\.|%2e){1,2}([/;?]|%2f|%3b|$)|(/|%2f)(\.|%2e){1,2}(;[^/?]*)?%2f).*"
)
"""Of ``:path``, which holds the query too."""


def is_literal(template: str) -> bool:
    """Whether it stands for one path, which nobody spells in another way."""
    return not (wildcard_texts(template) or odd_characters(template) or template.endswith("/"))


def regex(template: str) -> str:
    """The template as a regular expression of a whole path, each wildcard a group."""
    return _regex(template, _REST)


def claimed(template: str) -> str:
    """The same as routes are chosen: ``**`` may stand for nothing."""
    return _regex(template, _ANYTHING)


def nothing_left(template: str) -> str | None:
    """What is claimed and not matched; None for a template without ``**``."""
    return _regex(template, f"(?:{_EMPTY}/)*{_EMPTY}") if template.endswith("/**") else None


def _regex(template: str, rest: str) -> str:
    return "/" + "/".join(_segment(part, rest) for part in template[1:].split("/"))


def _segment(part: str, rest: str) -> str:
    if part == "**":
        return rest
    if part == "*":
        return _SEGMENT
    if part == "":
        return _EMPTY
    before, _, behind = VARIABLE.sub("\0", part).partition("\0")
    wildcard = ("([^/]+)" if before else _SEGMENT) if VARIABLE.search(part) else ""
    return "".join(map(_literal, before)) + wildcard + "".join(map(_literal, behind))


def substitution(template: str) -> str:
    """A rewrite for what :func:`regex` matched, its wildcards by their number."""
    number = 0
    segments = []
    for segment in template[1:].split("/"):
        wildcards = wildcard_texts(segment)
        number += len(wildcards)
        segments.append(segment.replace(wildcards[0], f"\\{number}") if wildcards else segment)
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
