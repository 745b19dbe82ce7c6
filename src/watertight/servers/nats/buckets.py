"""Key-value buckets and object stores: streams with names and subjects of their own (NATS ADR-8,
ADR-20). Of the subjects that begin with ``$``, only theirs may be kept and granted.
"""

import re
from collections.abc import Mapping
from typing import TypeVar

KEYS, OBJECTS = "$KV", "$O"
_STREAM = {KEYS: "KV_", OBJECTS: "OBJ_"}
T = TypeVar("T")
_BUCKET = re.compile(r"[A-Za-z0-9_-]+")


def stream_of(subject: str) -> str | None:
    """``KV_settings`` for ``$KV.settings.color``; None if it is no subject of a bucket."""
    first, _, rest = subject.partition(".")
    bucket, dot, _ = rest.partition(".")
    if first in _STREAM and dot and _BUCKET.fullmatch(bucket):
        return f"{_STREAM[first]}{bucket}"
    return None


def subjects_of(stream: str) -> tuple[str, ...]:
    """The subjects of a bucket's stream, as clients make it."""
    for first, prefix in _STREAM.items():
        if stream.startswith(prefix):
            root = f"{first}.{stream.removeprefix(prefix)}"
            return (f"{root}.C.>", f"{root}.M.>") if first == OBJECTS else (f"{root}.>",)
    raise ValueError(stream)


def named(keys: Mapping[str, T], objects: Mapping[str, T]) -> Mapping[str, T]:
    """Stream → what is said of it, for buckets and object stores by their own names."""
    return {
        **{f"{_STREAM[KEYS]}{name}": wanted for name, wanted in keys.items()},
        **{f"{_STREAM[OBJECTS]}{name}": wanted for name, wanted in objects.items()},
    }
