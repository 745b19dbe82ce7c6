"""What somebody who mistyped a word probably meant."""

import difflib
from collections.abc import Collection

from watertight.model.document import quoted

MAX_CANDIDATES = 500
"""Comparing with each of thousands of names would make a bad file slow to refuse."""


def did_you_mean(found: str, allowed: Collection[str]) -> str:
    """``Did you mean `orders-db`?``, or nothing if no allowed word is near."""
    first = sorted(allowed)[:MAX_CANDIDATES]
    near = difflib.get_close_matches(found[:100], first, n=1, cutoff=0.6)
    return f"Did you mean {quoted(near[0])}?" if near else ""


def one_of(allowed: Collection[str], limit: int = 12) -> str:
    """The allowed words as a list: `` `http`, `grpc`, `tcp` ``."""
    words = ", ".join(quoted(word) for word in list(allowed)[:limit])
    return words + (" …" if len(allowed) > limit else "")
