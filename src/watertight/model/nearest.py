"""What somebody who mistyped a word probably meant."""

import difflib
from collections.abc import Collection

from watertight.model.document import quoted

MAX_CANDIDATES = 500
"""Comparing with each of thousands of names would make a bad file slow to refuse."""
NEAR = 0.6
"""Of 1: how much of two words must be the same for a hint."""


def nearest(found: str, allowed: Collection[str], *, cutoff: float = NEAR) -> str | None:
    """The allowed word that is most like ``found``, whatever its case; None if none is near."""
    words = {word.casefold(): word for word in sorted(allowed)[:MAX_CANDIDATES]}
    near = difflib.get_close_matches(found[:100].casefold(), words, n=1, cutoff=cutoff)
    return words[near[0]] if near else None


def did_you_mean(found: str, allowed: Collection[str]) -> str:
    """``Did you mean `orders-db`?``, or nothing if no allowed word is near."""
    near = nearest(found, allowed)
    return f"Did you mean {quoted(near)}?" if near is not None else ""


def did_you_mean_beside(path: str, names: Collection[str]) -> str:
    """The same for the last part of a path; what stands before it is kept: ``db/schema.sql``."""
    folder, slash, name = path.rstrip("/").rpartition("/")
    near = nearest(name, names)
    return f"Did you mean {quoted(folder + slash + near)}?" if near is not None else ""


def did_you_mean_or_list(found: str, allowed: Collection[str]) -> str:
    """The same; if none is near, all that there are (or the first of them)."""
    if hint := did_you_mean(found, allowed):
        return hint
    return f"There are: {one_of(sorted(allowed))}." if allowed else "There is none."


def one_of(allowed: Collection[str], limit: int = 12) -> str:
    """The allowed words as a list: `` `http`, `grpc`, `tcp` ``."""
    words = ", ".join(quoted(word) for word in list(allowed)[:limit])
    return words + (" …" if len(allowed) > limit else "")
