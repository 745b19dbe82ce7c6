"""What a rewrite would make another path of than it says.

``/a/{id}.json`` takes ``/a/...json``. Where it becomes ``/files/{id}``, that would be
``/files/..``, which the service's door resolves to ``/``: what another route guards, perhaps.
"""

import re

from watertight.model.templates import ODD, VARIABLE, wildcard_texts

_STEP = r"(?:\.{1,2}|\.{0,2}(?:;|%3b)[^/]*)"
"""A dot segment, or an empty one, with parameters or without."""


def steps(path: str, rewrite: str | None) -> tuple[str, ...]:
    """Regular expressions of the paths, among those that ``path`` matches, that are refused.

    Only half a segment may be a step without being resolved before it is judged; and only where
    nothing but dots comes before it, it is one again.
    """
    seen = [segment for segment in (rewrite or "").split("/") if wildcard_texts(segment)]
    segments = path[1:].split("/")
    found = []
    number = -1
    for place, segment in enumerate(segments):
        number += bool(wildcard_texts(segment))
        half = VARIABLE.search(segment)
        if half is None or half[0] == segment or number >= len(seen):
            continue
        before = VARIABLE.split(seen[number])[0]
        if not before.strip("."):
            others = [".*" if other == "**" else "[^/]*" for other in segments]
            ends = (segment[: half.start()], segment[half.end() :])
            others[place] = _STEP.join("".join(map(_literal, end)) for end in ends)
            found.append("(?i)/" + "/".join(others))
    return tuple(found)


def _literal(character: str) -> str:
    escaped = f"|%{ord(character):02x}" if ODD.fullmatch(character) else ""
    return f"(?:{re.escape(character)}{escaped})"
