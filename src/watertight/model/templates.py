"""Path templates: which request paths a grant or a route means.

``/orders/*`` and ``/orders/{id}`` match one non-empty segment, ``/orders/{id}:cancel`` and
``/files/{name}.json`` one that ends so; a final ``**`` matches one or more: ``/orders/**`` matches
``/orders/1`` and ``/orders/1/lines``, and neither ``/orders`` nor ``/orders/``. A wildcard takes
every character that a path may hold. A segment of parameters only (``;x``) is an empty one, as
servlet containers have it: no wildcard stands for it, and ``/orders/;x`` is ``/orders/``. Were it
otherwise, ``/**`` would open the ``/`` that it leaves closed.

Of the gateway's routes the first that *claims* a request takes it. A template claims what it
matches, and what it would if ``**`` might stand for nothing: that one request it then refuses, so
that no looser route behind it answers ``/admin/``. Tests hold all of it to the real Envoy.
"""

import re
from dataclasses import dataclass
from urllib.parse import quote, unquote_to_bytes

from watertight.errors import WatertightError

MAX_LENGTH = 2048
MAX_SEGMENTS = 64
MAX_WILDCARDS = 9
"""A rewrite names each by one digit."""

LITERAL = re.compile(r"[A-Za-z0-9._~!$&'()*+,;:@=-]+")
"""Of RFC 3986's ``pchar`` all but escapes. A ``*`` beside others in a segment is a star."""
ODD = re.compile(r"[!$&'()*+,;:@=]")
"""What means something to some programs, and may come escaped: ``%40`` is ``@`` to most."""
VARIABLE = re.compile(r"\{([A-Za-z_][A-Za-z0-9_-]{0,63})\}")

GAP = "{}"
"""Where in a mixed segment its wildcard stands: ``{id}:cancel`` is kept as ``{}:cancel``."""

_UNRESERVED_ESCAPE = re.compile(
    r"%(?:2[dDeE]|3[0-9]|4[1-9a-fA-F]|5[0-9aA]|5[fF]|6[1-9a-fA-F]|7[0-9aA]|7[eE])"
)
_ODD_ESCAPE = re.compile(r"%(?:2[146789aAbBcC]|3[aAbBdD]|40)")
_ESCAPED_SLASH = re.compile(r"%2[fF]")
_DOTS_WITH_PARAMETERS = re.compile(r"/(\.{1,2});[^/]*")
"""Envoy takes ``/..;x`` for ``/..``, but finds it only where it is not escaped."""
_AMBIGUOUS = re.compile(r"(?i)/\.{1,2}(;|%3b)")
_REFUSED = re.compile(r"%00|[^\x21-\x7e]|#")
_NOT_ASCII = re.compile(r"[^\x00-\x7f]+")
_ONLY_SLASHES = re.compile(r"^/(?:/|%2[fF])+$")
"""Envoy merges no path of slashes alone, and to many programs it is ``/``."""
_ESCAPED = re.compile(r"%(?:2[fF]|5[cC])")
_ESCAPED_STEP = re.compile(
    r"(?i)%5c|%2f(?:\.|%2e){1,2}(?:/|;|%2f|%3b|$)|(?:^|/|%2f)(?:\.|%2e){1,2}(?:;[^/]*)?%2f"
)
"""A step up for whoever reads ``%2F`` as a slash: refused also where ``%2F`` is not."""


class RefusedPath(WatertightError):
    """Every proxy answers 400 to a request with this path, whatever is granted."""


class TemplateError(ValueError):
    """The text is not a path template; the message is half a sentence that says why."""


@dataclass(frozen=True, slots=True)
class Template:
    """One parsed path template. ``segments`` holds literals, ``*`` and mixed segments (with
    :data:`GAP` in them); ``rest``: it ends in ``**``.

    The last literal may be empty: ``/orders/`` is not ``/orders`` (RFC 3986 section 6.2.2.3).
    """

    segments: tuple[str, ...]
    rest: bool

    @property
    def wildcards(self) -> int:
        """How many ``*``, ``{name}`` and ``**`` it holds."""
        return sum(map(has_wildcard, self.segments)) + self.rest

    def matches(self, path: str) -> bool:
        """Whether it matches a path in normal form (see :func:`normalise`), without a query."""
        rest = path[1:].split("/")[len(self.segments) :]
        return self.claims(path) and not (self.rest and all(map(is_empty, rest)))

    def claims(self, path: str) -> bool:
        """As :meth:`matches`, but ``**`` may stand for nothing: as Envoy chooses a route."""
        found = path[1:].split("/")
        return self.spans(len(found)) and all(map(_segment_matches, self.segments, found))

    def covers(self, other: "Template") -> bool:
        """Whether each path that ``other`` matches is matched by this one too."""
        rest = other.segments[len(self.segments) :]
        nothing_left = self.rest and not other.rest and all(map(is_empty, rest))
        return self.shadows(other) and not nothing_left

    def shadows(self, other: "Template") -> bool:
        """Whether each path that ``other`` matches is claimed by this one."""
        if other.rest and not self.rest:
            return False
        if not self.spans(len(other.segments) + other.rest):
            return False
        return all(map(segment_covers, self.segments, other.segments))

    def overlaps(self, other: "Template") -> bool:
        """Whether some path is claimed by both."""
        if not (self.rest or other.rest) and len(self.segments) != len(other.segments):
            return False
        if self.rest and not other.rest and not self.spans(len(other.segments)):
            return False
        if other.rest and not self.rest and not other.spans(len(self.segments)):
            return False
        return all(map(segments_overlap, self.segments, other.segments))

    def below(self) -> "Template":
        """Of all that lies below what it matches."""
        kept = self.segments[:-1] if self.segments[-1:] == ("",) else self.segments
        return Template(kept, rest=True)

    def spans(self, count: int) -> bool:
        """Whether it can match a path of that many segments."""
        return count > len(self.segments) if self.rest else count == len(self.segments)


def parse_template(text: str) -> Template:
    """Reads a path template. Raises :class:`TemplateError` that names the wrong segment."""
    if not text.startswith("/"):
        raise TemplateError("it does not start with `/`")
    if len(text) > MAX_LENGTH:
        raise TemplateError(f"it has {len(text)} characters of at most {MAX_LENGTH}")
    parts = text[1:].split("/")
    if len(parts) > MAX_SEGMENTS:
        raise TemplateError(f"it has {len(parts)} segments of at most {MAX_SEGMENTS}")
    rest = parts[-1] == "**"
    segments = tuple(
        _parse_segment(part, last=number == len(parts))
        for number, part in enumerate(parts[: len(parts) - rest], start=1)
    )
    template = Template(segments, rest)
    if template.wildcards > MAX_WILDCARDS:
        raise TemplateError(f"it has {template.wildcards} wildcards of at most {MAX_WILDCARDS}")
    names = VARIABLE.findall(text)
    if repeated := {name for name in names if names.count(name) > 1}:
        raise TemplateError(f"the name `{{{min(repeated)}}}` stands in it twice")
    return template


def _parse_segment(part: str, *, last: bool) -> str:
    if part == "*" or VARIABLE.fullmatch(part):
        return "*"
    if part == "**":
        raise TemplateError("`**` may only be its last segment")
    if part in {".", ".."}:
        raise TemplateError(f"no request ever has the segment `{part}`: proxies resolve it")
    if part.startswith((".;", "..;")):
        raise TemplateError(f"every proxy refuses the segment `{part}`")
    if LITERAL.fullmatch(part) or (part == "" and last):
        return part
    if "{" in part or "}" in part:
        return _parse_mixed(part)
    hint = ": write `*` for what comes escaped, and `@` for `%40`" if "%" in part else ""
    raise TemplateError(f"the segment `{part}` is neither a literal nor a wildcard{hint}")


def _parse_mixed(part: str) -> str:
    """One wildcard with literals around it. What follows it must not look like the end of an
    escape: ``x%40`` is ``x@`` to an app, and does not end in ``40``."""
    names = VARIABLE.findall(part)
    if len(names) > 1:
        raise TemplateError(
            f"the segment `{part}` holds {len(names)} wildcards, and where one ends nobody knows: "
            f"write one for the whole segment, `{{{names[0]}}}`"
        )
    before, _, behind = VARIABLE.sub("\0", part).partition("\0")
    if not names and "=" in part:
        raise TemplateError(
            f"the segment `{part}` says what its wildcard stands for: "
            "write that out, `shelves/{shelf}` for `{name=shelves/*}`"
        )
    if not names or not LITERAL.fullmatch(f"{before}{behind}"):
        raise TemplateError(
            f"the segment `{part}` is neither a literal nor a wildcard: "
            "`{name}` is a letter, then letters, digits, `_` and `-`"
        )
    if behind[:1].isalnum():
        raise TemplateError(
            f"in the segment `{part}` a letter or digit follows the wildcard: "
            f"begin what follows with one of `- . _ ~ : @ , ; = + ! $ & ' ( )`, or write "
            f"`{before}{{{names[0]}}}`"
        )
    return f"{before}{GAP}{behind}"


def has_wildcard(segment: str) -> bool:
    """Of :attr:`Template.segments`: whether it is no literal."""
    return segment == "*" or GAP in segment


def is_empty(segment: str) -> bool:
    """Whether there is nothing in it, or parameters of nothing (RFC 3986 section 3.3)."""
    return segment == "" or segment.startswith((";", "%3b", "%3B"))


def _segment_matches(pattern: str, segment: str) -> bool:
    if pattern in {"", "*"}:
        return is_empty(segment) == (pattern == "")
    read = _ODD_ESCAPE.sub(lambda m: unquote_to_bytes(m[0]).decode("ascii"), segment)
    return segment_covers(pattern, read) if GAP in pattern else pattern == read


def segment_covers(pattern: str, other: str) -> bool:
    """Whether each segment that ``other`` matches (itself, if it is a literal) this one does."""
    if pattern == other:
        return True
    if pattern == "":
        return is_empty(other)
    if is_empty(other) and not is_empty(pattern):
        return False
    if pattern == "*" or GAP not in pattern:
        return pattern == "*"
    before, behind = pattern.split(GAP)
    longer = len(other) > len(before) + len(behind)
    return longer and other.startswith(before) and other.endswith(behind)


def segments_overlap(one: str, other: str) -> bool:
    """Whether some segment is matched by both."""
    if GAP not in one or GAP not in other:
        return segment_covers(one, other) or segment_covers(other, one)
    if is_empty(one) != is_empty(other):
        return False
    (before, behind), (other_before, other_behind) = one.split(GAP), other.split(GAP)
    return (before.startswith(other_before) or other_before.startswith(before)) and (
        behind.endswith(other_behind) or other_behind.endswith(behind)
    )


def wildcard_texts(text: str) -> tuple[str, ...]:
    """The wildcards of a path template as written, in order: ``("{id}", "*", "**")``."""
    found: list[str] = []
    for part in text.split("/"):
        found += [part] if part in {"*", "**"} else (m[0] for m in VARIABLE.finditer(part))
    return tuple(found)


def odd_characters(text: str) -> str:
    """The characters in the literals of a path template that are not plain letters of paths."""
    literals = (VARIABLE.sub("", s) for s in text.split("/") if s not in {"*", "**"})
    return "".join(dict.fromkeys(ODD.findall("/".join(literals))))


def has_escaped_slash(path: str) -> bool:
    """Whether ``%2F`` stands in the path."""
    return _ESCAPED_SLASH.search(path) is not None


def normalise(
    path: str,
    *,
    escaped_slashes: bool = False,
    double_slashes: bool = False,
    at_door: bool = False,
) -> str:
    """The path as grants see it, after a proxy normalised it: no query, no dots, no escapes.

    As Envoy does with ``normalize_path``, ``merge_slashes`` and
    ``path_with_escaped_slashes_action: REJECT_REQUEST`` (RFC 3986 section 6.2.2); the keywords
    keep ``%2F`` and ``//``, where a route of the gateway asks for it. ``at_door``: as a service's
    door does, which refuses ``%2F`` only if it is still there when dots are resolved. Raises
    :class:`RefusedPath` for what every proxy of ours refuses outright.
    """
    bare = readable(path)
    if not (escaped_slashes or at_door):
        _refuse(path, bare, _ESCAPED)
    resolved = _DOTS_WITH_PARAMETERS.sub(r"/\1", bare)
    plain = _UNRESERVED_ESCAPE.sub(lambda m: unquote_to_bytes(m[0]).decode("ascii"), resolved)
    parts = _without_dots(plain)
    joined = "/" + "/".join(parts)
    if not escaped_slashes:
        _refuse(path, joined, _ESCAPED)
    _refuse(path, joined, _AMBIGUOUS)
    _refuse(path, joined, _ESCAPED_STEP)
    _refuse(path, joined, _ONLY_SLASHES)
    if double_slashes:
        return joined
    merged = [part for part in parts if part]
    return "/" + "/".join(merged) + ("/" if merged and parts[-1] == "" else "")


def readable(path: str) -> str:
    """The path without its query, if any proxy of ours reads it. Raises :class:`RefusedPath`.

    What is not ASCII is escaped, as browsers do before they send it, and Envoy where HTTP/2 carries
    it raw. In HTTP/1 it is no path (RFC 9112 section 3.2), and answered 400.
    """
    escaped = _NOT_ASCII.sub(lambda m: quote(m[0], errors="surrogateescape"), path)
    bare = escaped.partition("?")[0]
    if not bare.startswith("/"):
        raise RefusedPath(f"The path `{path}` does not start with `/`.")
    _refuse(path, bare, _REFUSED)
    return bare


def _refuse(path: str, seen: str, pattern: re.Pattern[str]) -> None:
    if match := pattern.search(seen):
        raise RefusedPath(
            f"Every proxy refuses the path `{path}` because of `{match[0]}` in it.",
            remedy="What programs read in several ways never reaches a service.",
        )


def _without_dots(path: str) -> list[str]:
    """The segments once ``.`` and ``..`` are resolved (RFC 3986 section 5.2.4); some empty."""
    kept: list[str] = []
    parts = path.replace("\\", "/").split("/")[1:]
    for part in parts:
        if part == "..":
            del kept[-1:]
        elif part != ".":
            kept.append(part)
    return [*kept, ""] if parts[-1] in {".", ".."} else kept
